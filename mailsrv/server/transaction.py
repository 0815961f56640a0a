"""A mail transaction: sender, recipients, content (RFC 5321 §3.3)."""

from __future__ import annotations

from datetime import datetime

from zope.interface import implementer

from mailsrv.interfaces import ISession, ITransaction, Resolution
from mailsrv.server.spool import Spool
from mailsrv.smtp.address import Mailbox
from mailsrv.smtp.command import Parameters, formatParameters
from mailsrv.smtp.message import Content, Forward, Message, Recipient, Summary


@implementer(ITransaction)
class Transaction:
    """What a client has said since MAIL; it grows with RCPT and ends as a frozen Message.

    `accepted`: how many RCPT were answered positively, repeated ones included (LMTP owes each a
    reply). `needsChunks`: the content must come by BDAT. It owns its spool until `close`.
    """

    __slots__ = (
        "__weakref__",
        "_forwards",
        "_recipients",
        "accepted",
        "needsChunks",
        "parameters",
        "reversePath",
        "session",
        "spool",
        "usesChunks",
    )

    def __init__(self, session: ISession, reversePath: Mailbox, parameters: Parameters) -> None:
        self.session = session
        self.reversePath = reversePath
        self.parameters = parameters
        self.accepted = 0
        self.needsChunks = False
        self.usesChunks = False
        self.spool: Spool | None = None
        self._recipients: dict[tuple[str, int | None], Recipient] = {}
        self._forwards: dict[str, Forward] = {}

    @property
    def size(self) -> int:
        """Octets of content so far."""
        return 0 if self.spool is None else self.spool.size

    @property
    def recipients(self) -> list[Recipient]:
        """One for each accepted forward-path and mailbox."""
        return list(self._recipients.values())

    def accept(self, forwardPath: Mailbox, parameters: Parameters, found: Resolution) -> None:
        """Take a recipient the directory resolved; the same one again changes nothing."""
        self.accepted += 1
        address, key = str(forwardPath), forwardPath.key
        said = formatParameters(parameters).strip()
        for userId in found.mailboxes or (None,):
            self._recipients.setdefault((key, userId), Recipient(address, userId, said))
        for target in found.forwards:
            self._forwards.setdefault(target, Forward(target, address, said))

    def abandon(self) -> None:
        """Give the content back, as far as it has come."""
        if self.spool is not None:
            self.spool.close()
            self.spool = None

    def close(
        self,
        *,
        messageId: str,
        receivedAt: datetime,
        content: Content,
        summary: Summary,
        trace: bytes,
        protocol: str,
    ) -> Message:
        """The transaction as a message for the store, which owns the content from here on."""
        self.spool = None
        return Message(
            id=messageId,
            receivedAt=receivedAt,
            sender=str(self.reversePath),
            recipients=tuple(self._recipients.values()),
            forwards=tuple(self._forwards.values()),
            content=content,
            summary=summary,
            parameters=formatParameters(self.parameters).strip(),
            helo=self.session.helo,
            peer=self.session.peer,
            protocol=protocol,
            trace=trace,
        )
