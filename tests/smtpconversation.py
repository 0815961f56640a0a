"""A real server on a transport in memory and a clock that stands still: support for the tests."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IAddress, IHalfCloseableDescriptor
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.extensions.standard import standardExtensions
from mailsrv.interfaces import (
    IDirectory,
    IMessageStore,
    ISession,
    ISessionObserver,
    Limits,
    MaybeDeferredReply,
    Resolution,
)
from mailsrv.server.factory import SmtpServerFactory
from mailsrv.server.protocol import SmtpProtocol
from mailsrv.server.site import Listener
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox, foldCase
from mailsrv.smtp.errors import Unavailable
from mailsrv.smtp.message import Message
from mailsrv.smtp.reply import Reply, reply

HOST = "mx.example.org"
PLAIN = "192.0.2.7"
_ID = re.compile(rb"id=[0-9A-HJKMNP-TV-Z]{26}")


def masked(octets: bytes) -> bytes:
    """The replies with every message's id replaced: what must not depend on how octets are cut."""
    return _ID.sub(b"id=<id>", octets)


def addressOf(host: str, port: int = 40_000) -> IAddress:
    """An IPv4 or IPv6 address; '' is the other end of a UNIX socket."""
    if not host:
        return UNIXAddress(None)
    return (IPv6Address if ":" in host else IPv4Address)("TCP", host, port)


@implementer(IHalfCloseableDescriptor)
class Wire(StringTransport):
    """The client's end of a TCP connection.

    `ending`: '' while it is open, then how the server ended it: 'half' (the client can still send
    and is read), 'whole', 'aborted'. What is written after the end is an error, and so is a pause
    of what nobody reads any more.
    """

    ending = ""

    def write(self, data: bytes) -> None:
        assert not self.ending, f"written after the end: {data!r}"
        super().write(data)

    def loseConnection(self) -> None:
        self.ending = self.ending or "whole"
        super().loseConnection()

    def loseWriteConnection(self) -> None:
        assert not self.ending
        self.ending = "half"

    def readConnectionLost(self, reason: Failure) -> None:
        raise NotImplementedError

    def writeConnectionLost(self, reason: Failure) -> None:
        raise NotImplementedError

    def abortConnection(self) -> None:
        self.ending = "aborted"
        self.disconnected = True


class TlsLikeWire(StringTransport):
    """A transport that cannot be closed by halves, as TLS cannot."""


# Stores


@implementer(IMessageStore)
class RecordingStore:
    """Keeps every message and its octets, commits on the spot; `fault`: what it fails with."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.contents: list[bytes] = []
        self.fault: Exception | None = None

    def store(self, message: Message) -> Deferred[str]:
        octets = b"".join(message.content.pieces(65_536))
        message.content.close()
        if self.fault is not None:
            return Deferred.fromCoroutine(_fail(self.fault))
        self.messages.append(message)
        self.contents.append(octets)
        return succeed(message.id)


async def _fail(fault: Exception) -> str:
    raise fault


# Directories

_KNOWN: Mapping[str, Resolution] = {
    "alice@example.org": Resolution(r.RECIPIENT_OK, (1,)),
    "bob@example.org": Resolution(r.RECIPIENT_OK, (2,)),
    "postmaster": Resolution(r.RECIPIENT_OK),
    "postmaster@example.org": Resolution(r.RECIPIENT_OK),
    "team@example.org": Resolution(r.RECIPIENT_OK, (1, 2), ("carol@elsewhere.test",)),
    "away@example.org": Resolution(
        reply(251, "2.1.5", "User not local; will forward to <away@elsewhere.test>"),
        forwards=("away@elsewhere.test",),
    ),
    "gone@example.org": Resolution(
        reply(551, "5.1.6", "User not local; please try <gone@elsewhere.test>")
    ),
    "loop@example.org": Resolution(r.ALIAS_LOOP),
}


@implementer(IDirectory)
class StaticDirectory:
    """The users of example.org; `down@` fails with Unavailable, `broken@` with a fault of ours.

    `slow@` and whatever is asked while `isSlow` is answered when the test calls `answer()`;
    what waits stands in `waiting`. Names at other domains are accepted and queued: the
    relay policy is asked before.
    """

    def __init__(self) -> None:
        self.isSlow = False
        self.waiting: list[Callable[[], None]] = []
        self.withdrawn: list[str] = []

    def resolve(self, forwardPath: Mailbox) -> Resolution | Deferred[Resolution]:
        if self.isSlow or forwardPath.localPart == "slow":
            return self._later(str(forwardPath), lambda: self._resolution(forwardPath))
        return self._resolution(forwardPath)

    def _resolution(self, forwardPath: Mailbox) -> Resolution:
        _failWhereDown(forwardPath.localPart)
        if forwardPath.key in _KNOWN:
            return _KNOWN[forwardPath.key]
        if forwardPath.localPart in ("slow", "δοκιμή") or forwardPath.localPart.isdigit():
            return Resolution(r.RECIPIENT_OK, (3,))
        if foldCase(forwardPath.domain) == "example.org":
            return Resolution(r.NO_SUCH_USER)
        return Resolution(r.RECIPIENT_OK, forwards=(str(forwardPath),))

    def verify(self, string: str) -> MaybeDeferredReply:
        if self.isSlow:
            return self._later(string, lambda: self._verified(string))
        return self._verified(string)

    def _verified(self, string: str) -> Reply:
        _failWhereDown(string)
        known = {
            "alice": reply(250, "2.1.5", "Alice Liddell <alice@example.org>"),
            "team": reply(550, "5.1.1", "a mailing list, not a user"),
            "smith": reply(553, "5.1.4", "ambiguous"),
        }
        return known.get(string, r.NO_SUCH_USER)

    def expand(self, string: str) -> MaybeDeferredReply:
        if self.isSlow:
            return self._later(string, lambda: self._expanded(string))
        return self._expanded(string)

    def _expanded(self, string: str) -> Reply:
        _failWhereDown(string)
        members = ("Alice Liddell <alice@example.org>", "<carol@elsewhere.test>")
        known = {
            "team": reply(250, "2.1.5", *members),
            "empty": reply(250, "2.1.5", "The list has no members"),
            "alice": reply(550, "5.1.1", "a user, not a mailing list"),
        }
        return known.get(string, reply(550, "5.1.1", "No such mailing list here"))

    def _later(self, name: str, answer: Callable[[], Any]) -> Deferred[Any]:
        def fire() -> None:
            try:
                deferred.callback(answer())
            except Exception:
                deferred.errback(Failure())

        def withdraw(_: Deferred[Any]) -> None:
            self.withdrawn.append(name)
            self.waiting.remove(fire)

        deferred: Deferred[Any] = Deferred(withdraw)
        self.waiting.append(fire)
        return deferred

    def answer(self) -> None:
        """Answer the question that has waited longest."""
        self.waiting.pop(0)()


def _failWhereDown(name: str) -> None:
    if name == "down":
        raise Unavailable("the database is at 10.0.0.1 with password secret")
    if name == "broken":
        raise ZeroDivisionError("a secret of ours")


@implementer(IDirectory)
class SinkDirectory(StaticDirectory):
    """Everybody is welcome, nobody has a mailbox."""

    def _resolution(self, forwardPath: Mailbox) -> Resolution:
        return Resolution(r.RECIPIENT_OK)


# Observers


@implementer(ISessionObserver)
class RecordingObserver:
    """All that was heard, as tuples that begin with the method's name."""

    def __init__(self) -> None:
        self.heard: list[tuple[Any, ...]] = []

    def sessionOpened(self, session: ISession) -> None:
        self.heard.append(("opened", session.peer))

    def sessionClosed(self, session: ISession, reason: str) -> None:
        self.heard.append(("closed", session.peer, reason))

    def commandRefused(self, session: ISession, verb: str, argument: bytes, reply: Reply) -> None:
        self.heard.append(("refused", verb, argument, reply.code))

    def messageStored(self, session: ISession, message: Message, seconds: float) -> None:
        self.heard.append(("stored", message.id, seconds))

    def named(self, name: str) -> list[tuple[Any, ...]]:
        return [event[1:] for event in self.heard if event[0] == name]


# Conversations


class TurningClock(Clock):
    """A clock that turns as a reactor does: what is to be called soon is called in the next turn."""

    def advance(self, amount: float) -> None:
        self.rightNow += amount
        for call in [call for call in self.calls if call.getTime() <= self.rightNow]:
            if call.active():
                self.calls.remove(call)
                call.called = 1
                call.func(*call.args, **call.kw)


@dataclass
class Client:
    """One connection, from the client's side."""

    protocol: SmtpProtocol
    wire: Any
    clock: Clock
    _seen: int = field(default=0, init=False)

    def send(self, octets: bytes) -> bytes:
        """Send as one segment, let the reactor turn, and return what was answered meanwhile."""
        self.protocol.dataReceived(octets)
        return self.heard()

    def say(self, *lines: str) -> bytes:
        """Send lines, CRLF added."""
        return self.send("".join(f"{line}\r\n" for line in lines).encode())

    def heard(self) -> bytes:
        """What the server has said since the last time, when the turn is over, ids masked."""
        self.clock.advance(0)
        octets: bytes = self.wire.value()
        new, self._seen = octets[self._seen :], len(octets)
        return masked(new)

    def codes(self, *lines: str) -> list[int]:
        """Send lines, and only the codes of the replies."""
        return codesOf(self.say(*lines))

    def everything(self) -> bytes:
        """All the server ever said, when the turn is over, ids masked."""
        self.clock.advance(0)
        return masked(self.wire.value())

    def leave(self, cleanly: bool = True) -> None:
        """The client goes, without QUIT."""
        reason: Exception = ConnectionDone() if cleanly else ConnectionLost()
        self.protocol.connectionLost(Failure(reason))

    @property
    def isOpen(self) -> bool:
        return not self.wire.ending and not self.wire.disconnecting


def codesOf(octets: bytes) -> list[int]:
    """The code of each reply; the lines of a longer reply count once."""
    lines = octets.split(b"\r\n")[:-1]
    return [int(line[:3]) for line in lines if line[3:4] != b"-"]


class Server:
    """A whole SmtpServerFactory over fakes; its options are the factory's."""

    def __init__(
        self, store: Any = None, directory: Any = None, clock: Clock | None = None, **options: Any
    ) -> None:
        self.clock = clock or Clock()
        self.store = RecordingStore() if store is None else store
        self.directory = StaticDirectory() if directory is None else directory
        self.observer = RecordingObserver()
        options.setdefault("extensions", standardExtensions())
        observers = [*options.pop("observers", ()), self.observer]
        self.factory = SmtpServerFactory(
            self.store,
            self.directory,
            self.clock,
            hostname=HOST,
            observers=observers,
            **options,
        )

    def connect(
        self, peer: str = PLAIN, host: str = "192.0.2.1", listener: Listener | None = None
    ) -> Client:
        """A new client; its greeting has been said and stands in `heard()`."""
        return self.connectBy(Wire(addressOf(host, 25), addressOf(peer)), listener)

    def connectBy(self, wire: Any, listener: Listener | None = None) -> Client:
        makes = self.factory if listener is None else self.factory.forListener(listener)
        protocol = makes.buildProtocol(wire.getPeer())
        protocol.makeConnection(wire)
        return Client(protocol, wire, self.clock)

    def greeted(self, *lines: str, **where: Any) -> Client:
        """A client that has said EHLO and `lines`, whose answers have been read."""
        client = self.connect(**where)
        client.say("EHLO client.example.net", *lines)
        return client


def limited(**limits: Any) -> Limits:
    """Limits that differ from the usual ones in what is named."""
    return Limits(**limits)


ENVELOPE = ("MAIL FROM:<sender@example.net>", "RCPT TO:<alice@example.org>")
MESSAGE = ("Subject: hello", "", "A line of text.", ".")
