"""A next hop in memory that does at one point what it should not, and a relay that meets it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from zope.interface import implementer

from clientconversation import Wire
from mailsrv.client.transport import EsmtpTransport
from mailsrv.extensions.standard import clientExtensions
from mailsrv.interfaces import IClientExtension
from relay.relaysupport import Relay, makeItem

Answer = bytes | Callable[["HopSession"], None]

PROPER: Mapping[str, Answer] = {
    "CONNECT": b"220 mx.x.example ESMTP\r\n",
    "EHLO": b"250-mx.x.example\r\n250-PIPELINING\r\n250 SIZE 10000000\r\n",
    "STARTTLS": b"220 2.0.0 go\r\n",
    "DATA": b"354 go\r\n",
    "QUIT": b"221 2.0.0 bye\r\n",
}
OK = b"250 2.0.0 ok\r\n"


class HopSession(Wire):
    """One connection, seen from the hop: what it hears it answers a moment later.

    `isDeaf`: it reads no more, and the client's buffer is full at once. `ending`: how the client
    ended it. `sent`: all that the client has written.
    """

    def __init__(self, hop: HostileHop) -> None:
        super().__init__()
        self.hop = hop
        self.isDeaf = False
        self.sent = b""
        self._buffer = b""
        self._awaited = 0  # octets of a chunk
        self._isData = False

    def write(self, octets: bytes) -> None:
        assert not self.ending, f"written after the end: {octets[:80]!r}"
        self.sent += octets
        if self.isDeaf:
            if self.producer is not None:
                self.producer.pauseProducing()
            return
        self._buffer += octets
        self._read()

    def _read(self) -> None:
        while not self.isDeaf:
            if self._awaited:
                if len(self._buffer) < self._awaited:
                    return
                self._take(self._awaited, "BDAT")
            elif self._isData:
                end = (
                    0 if self._buffer.startswith(b".\r\n") else self._buffer.find(b"\r\n.\r\n") + 2
                )
                if end == 1:
                    return
                self._isData = False
                self._take(end, ".")
                self._buffer = self._buffer.removeprefix(b".\r\n")
            elif b"\r\n" in self._buffer:
                line, self._buffer = self._buffer.split(b"\r\n", 1)
                self._command(line)
            else:
                return

    def _take(self, octets: int, point: str) -> None:
        self.hop.contents.append(self._buffer[:octets].replace(b"\r\n..", b"\r\n."))
        self._buffer, self._awaited = self._buffer[octets:], 0
        self.answer(point)

    def _command(self, line: bytes) -> None:
        self.hop.heard.append(line)
        verb = line.split(b" ")[0].decode("latin-1").upper()
        if verb == "BDAT":
            self._awaited = int(line.split()[1])
        else:
            self._isData = verb == "DATA"
            self.answer(verb)

    def answer(self, point: str) -> None:
        answer = self.hop.answers.get(point, self.hop.proper.get(point, OK))
        if callable(answer):
            answer(self)
        else:
            self.say(answer)

    def proper(self, point: str) -> bytes:
        """What should be said there."""
        answer = self.hop.proper.get(point, OK)
        assert isinstance(answer, bytes)
        return answer

    def say(self, octets: bytes, after: float = 0.0) -> None:
        self.hop.clock.callLater(after, self._deliver, octets)

    def _deliver(self, octets: bytes) -> None:
        for start in range(0, len(octets), 65_536):
            if not self.ending:
                self.protocol.dataReceived(octets[start : start + 65_536])

    def hangUp(self) -> None:
        """The hop drops the connection."""
        self.hop.clock.callLater(0, self.end, "dropped")

    def startTLS(self, creator: object) -> None:
        """Nobody here speaks it: a handshake that never ends."""
        self.isDeaf = True


@implementer(IStreamClientEndpoint)
class HostileHop:
    """A host that answers each point (CONNECT, a verb, or the final dot) as it should, but for
    what `answers` says; `heard` is every line but those of contents."""

    def __init__(self, clock: Clock, **proper: bytes) -> None:
        self.clock = clock
        self.proper = {**PROPER, **proper}
        self.answers: dict[str, Answer] = {}
        self.heard: list[bytes] = []
        self.contents: list[bytes] = []
        self.sessions: list[HopSession] = []

    @property
    def verbs(self) -> set[bytes]:
        return {line.split(b" ")[0] for line in self.heard}

    def connect(self, factory: Any) -> Deferred[Any]:
        session = HopSession(self)
        self.sessions.append(session)
        session.protocol = factory.buildProtocol(None)
        session.protocol.makeConnection(session)
        session.answer("CONNECT")
        return succeed(session.protocol)


class HostileRelay(Relay):
    """One message, to be sent by the real client to a hop that is hostile."""

    def __init__(
        self, octets: bytes, extensions: Sequence[IClientExtension] = (), **proper: bytes
    ) -> None:
        super().__init__(makeItem(message={"size": len(octets)}), octets=octets)
        self.hop = HostileHop(self.clock, **proper)
        self._extensions = extensions
        self.worker._connect = self._connectTo

    def _connectTo(self, name: str) -> Deferred[EsmtpTransport]:
        transport = EsmtpTransport(
            self.hop,
            self.clock,
            helo="relay.example.org",
            extensions=[*self._extensions, *clientExtensions()],
            hostname=f"mx.{name}",
        )
        return transport.connect().addCallback(lambda _: transport)

    @property
    def row(self) -> Any:
        return self.queue.rows[1]

    def settle(self, limit: float) -> float:
        """Let time pass until the message is settled once more; the seconds it took."""
        before, began = self.row.settled, self.clock.seconds()
        self._until(lambda: self.row.settled > before, limit)
        return self.clock.seconds() - began

    def awaitAll(self, limit: float) -> None:
        """Let time pass until each message has been settled."""
        self._until(lambda: all(row.settled for row in self.queue.rows.values()), limit)

    def _until(self, happened: Callable[[], bool], limit: float) -> None:
        deadline = self.clock.seconds() + limit
        while not happened():
            assert self.clock.seconds() < deadline, f"not settled: {self.hop.heard[-5:]}"
            self.clock.advance(0 if self._isDue() else 1)

    def _isDue(self) -> bool:
        return any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls())
