"""What was committed, for a test to wait for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NoReturn

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailsrv.interfaces import IMessageStore
from mailsrv.smtp.address import foldCase, parseMailbox
from mailsrv.smtp.message import BytesContent, Message

_PIECE = 1 << 16
_Waiting = tuple[str | None, int, Deferred[list[Message]]]


@implementer(IMessageStore)
class Inbox:
    """A store that passes messages on to another, and remembers what that one committed.

    `stored`: called with each message then.
    """

    def __init__(
        self,
        store: IMessageStore,
        clock: IReactorTime,
        stored: Callable[[Message], object] | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self._toldOf = stored
        self._messages: list[Message] = []
        self._waiting: list[_Waiting] = []

    def store(self, message: Message) -> Deferred[str]:
        octets = b"".join(message.content.pieces(_PIECE))
        kept = replace(message, content=BytesContent(octets))
        return self._store.store(message).addCallback(self._stored, kept)

    def _stored(self, id: str, message: Message) -> str:
        self._messages.append(message)
        if self._toldOf is not None:
            self._toldOf(message)
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            self._answer(each)
        return id

    def _answer(self, waiting: _Waiting) -> None:
        to, count, answer = waiting
        found = self.messages(to)
        if len(found) >= count:
            answer.callback(found)
        else:
            self._waiting.append(waiting)

    def messages(self, to: str | None = None) -> list[Message]:
        """What was committed so far, oldest first; all of it, or what was sent to an address."""
        return messagesTo(self._messages, to)

    def waitFor(
        self, to: str | None = None, count: int = 1, timeout: float = 10.0
    ) -> Deferred[list[Message]]:
        """Fires with the messages to an address as soon as there are `count`.

        Fails with AssertionError after `timeout` seconds; its text says what did come.
        """

        def giveUp(_: object, seconds: float) -> NoReturn:
            self._waiting = [each for each in self._waiting if each[2] is not answer]
            raise AssertionError(missing(self._messages, to, count, seconds))

        answer: Deferred[list[Message]] = Deferred()
        self._answer((to, count, answer))
        return answer.addTimeout(timeout, self._clock, giveUp)


def messagesTo(messages: Sequence[Message], to: str | None) -> list[Message]:
    """Those of the messages that were sent to an address, or all of them."""
    if to is None:
        return list(messages)
    key = _key(to)
    return [
        message
        for message in messages
        if any(_key(recipient.address) == key for recipient in message.recipients)
    ]


def missing(messages: Sequence[Message], to: str | None, count: int, seconds: float) -> str:
    """Why waiting was in vain."""
    came = [
        f"{message.sender or '<>'} to {', '.join(each.address for each in message.recipients)}:"
        f" {message.summary.subject}"
        for message in messages
    ]
    return (
        f"{len(messagesTo(messages, to))} of {count} messages to {to or 'anybody'} came within"
        f" {seconds:g} seconds; in all: " + ("; ".join(came) or "none")
    )


def _key(address: str) -> str:
    mailbox = parseMailbox(address)
    return foldCase(address) if mailbox is None else mailbox.key
