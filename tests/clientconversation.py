"""A client on a transport in memory, a clock that stands still, and a server that is a script."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.client.envelope import Envelope, SendResult
from mailsrv.client.transport import EsmtpTransport
from mailsrv.extensions.standard import clientExtensions
from mailsrv.interfaces import IClientExtension, UnexpectedReply
from mailsrv.smtp.reply import Reply

CONTENT = b"Subject: hello\r\n\r\n.dots\r\n..more\r\nend\r\n"
STUFFED = b"Subject: hello\r\n\r\n..dots\r\n...more\r\nend\r\n.\r\n"
HELLO = b"250-mx.example\r\n"
FULL = (
    b"250-mx.example greets you\r\n250-PIPELINING\r\n250-SIZE 100000\r\n250-8BITMIME\r\n"
    b"250-SMTPUTF8\r\n250-CHUNKING\r\n250-BINARYMIME\r\n250 DSN\r\n"
)


class Wire(StringTransport):
    """The client's transport: how it was ended is remembered, and told to the client at once."""

    ending = ""

    def loseConnection(self) -> None:
        self.end("closed")

    def abortConnection(self) -> None:
        self.end("aborted")

    def end(self, how: str) -> None:
        if not self.ending:
            self.ending = how
            self.protocol.connectionLost(Failure(ConnectionDone()))

    def write(self, octets: bytes) -> None:
        assert not self.ending, f"written after the end: {octets!r}"
        super().write(octets)


@implementer(IStreamClientEndpoint)
class MemoryEndpoint:
    def __init__(self, wire: Wire) -> None:
        self.wire = wire

    def connect(self, factory: Any) -> Deferred[Any]:
        self.wire.protocol = factory.buildProtocol(None)
        self.wire.protocol.makeConnection(self.wire)
        return succeed(self.wire.protocol)


class ClientConversation:
    """Plays the server: what the client must have said, and what it is answered.

    `piece`: how many octets of an answer arrive together, 0 for all. `cut`: where, counted over
    all answers, one of them is cut in two besides.
    """

    def __init__(
        self,
        extensions: Sequence[IClientExtension] | None = None,
        piece: int = 0,
        cut: int = -1,
        **options: Any,
    ) -> None:
        self.clock = Clock()
        self.wire = Wire()
        self.piece = piece
        self.cut = cut
        self.said = 0
        self.client = EsmtpTransport(
            MemoryEndpoint(self.wire),
            self.clock,
            helo="me.example",
            extensions=clientExtensions() if extensions is None else extensions,
            **options,
        )

    def hear(self, octets: bytes) -> None:
        """The client must have said just this since it was heard last."""
        heard = self.wire.value()
        self.wire.clear()
        assert heard == octets

    def say(self, octets: bytes) -> None:
        """Answer, cut as asked for."""
        at = self.cut - self.said
        self.said += len(octets)
        parts = [octets[:at], octets[at:]] if 0 < at < len(octets) else [octets]
        for part in parts:
            step = self.piece or max(len(part), 1)
            for start in range(0, len(part), step):
                self.wire.protocol.dataReceived(part[start : start + step])

    def drop(self) -> None:
        """The connection is gone."""
        self.wire.ending = "dropped"
        self.wire.protocol.connectionLost(Failure(ConnectionDone()))

    def play(self, *dialogue: tuple[bytes, bytes]) -> None:
        for heard, answer in dialogue:
            self.hear(heard)
            self.say(answer)

    def connect(self, ehlo: bytes = FULL) -> Deferred[None]:
        connected = self.client.connect()
        self.play((b"", b"220 mx.example ESMTP\r\n"), (b"EHLO me.example\r\n", ehlo))
        return connected

    def send(
        self,
        recipients: Sequence[str] = ("b@example.org",),
        content: object = CONTENT,
        sender: str = "a@example.org",
        **more: Any,
    ) -> Results:
        envelope = Envelope(sender, tuple(recipients), content, **more)
        return Results(self.client.send(envelope))


class Results:
    """What has come, so far, of a message."""

    def __init__(self, sending: Deferred[SendResult]) -> None:
        self.sending = sending
        self.result: SendResult | None = None
        self.failure: Failure | None = None
        sending.addCallbacks(self._came, self._failed)

    def _came(self, result: SendResult) -> None:
        self.result = result

    def _failed(self, failure: Failure) -> None:
        self.failure = failure

    @property
    def replies(self) -> list[Reply]:
        assert self.failure is None, self.failure.getTraceback()
        assert self.result is not None, "nothing has come yet"
        return [each.reply for each in self.result.recipients]

    @property
    def codes(self) -> list[tuple[int, str]]:
        return [(reply.code, reply.enhanced) for reply in self.replies]


def failed(connecting: Deferred[Any]) -> Reply:
    """The Reply that a Deferred failed with, which must have happened by now."""
    faults: list[Failure] = []
    connecting.addErrback(faults.append)
    assert faults, "it has not failed"
    faults[0].trap(UnexpectedReply)
    reply: Reply = faults[0].value.reply
    return reply
