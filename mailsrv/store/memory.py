"""A store that keeps messages in memory: for tests, and to try things out."""

from __future__ import annotations

from dataclasses import replace

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from mailsrv.interfaces import IMessageStore
from mailsrv.smtp.errors import CannotStore
from mailsrv.smtp.message import BytesContent, Message

_PIECE = 1 << 20


@implementer(IMessageStore)
class MemoryStore:
    """`messages` holds what was stored by its id, the content as BytesContent.

    It fails only where a content cannot be read (CannotStore).

    What it holds is gone with the process: for embedders' tests, not for mail.
    """

    def __init__(self) -> None:
        self.messages: dict[str, Message] = {}

    def store(self, message: Message) -> Deferred[str]:
        try:
            octets = b"".join(message.content.pieces(_PIECE))
        except Exception as error:
            return fail(CannotStore(str(error)))
        finally:
            message.content.close()
        self.messages[message.id] = replace(message, content=BytesContent(octets))
        return succeed(message.id)

    def close(self) -> Deferred[None]:
        """Nothing is under way, ever."""
        return succeed(None)
