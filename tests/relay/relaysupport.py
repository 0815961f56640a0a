"""A queue in memory, next hops that answer as told, and a clock that stands still."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import Logger
from zope.interface import implementer

from mailsrv.client.envelope import Envelope, RecipientResult, SendResult
from mailsrv.interfaces import (
    IDirectory,
    IQueue,
    Outcome,
    QueuedMessage,
    QueueItem,
    Resolution,
    UnexpectedReply,
)
from mailsrv.relay.delivery import Delivery
from mailsrv.relay.here import Here
from mailsrv.relay.limits import RelayLimits
from mailsrv.relay.reporter import Reporter
from mailsrv.relay.schedule import Schedule
from mailsrv.relay.worker import QueueWorker
from mailsrv.smtp import local
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox
from mailsrv.smtp.errors import CannotStore
from mailsrv.smtp.message import Forward, Message, Recipient
from mailsrv.smtp.reply import Reply, reply

HOST = "mx.example.org"
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
OCTETS = b"Subject: hello\r\nX-Note: first\r\n\r\nHi.\r\n"
TRACE = b"Return-Path: <alice@example.org>\r\nReceived: from a\r\n\tby b; date\r\n"

ACCEPTED = reply(250, "2.0.0", "taken")
REFUSED = reply(550, "5.1.1", "no such user")
BUSY = reply(450, "4.2.1", "mailbox busy")
GOING = reply(421, "4.3.2", "going away")


def makeItem(number: int = 1, **fields: Any) -> QueueItem:
    """An item to u<number>@x.example; `message` takes a dict of fields of its message."""
    message = QueuedMessage(
        **{
            "id": f"01J{number:023d}",
            "receivedAt": NOON,
            "sender": "alice@example.org",
            "parameters": "",
            "trace": TRACE,
            "size": len(OCTETS),
            **fields.pop("message", {}),
        }
    )
    address = fields.pop("address", f"u{number}@x.example")
    return QueueItem(
        **{
            "id": number,
            "claim": "",
            "message": message,
            "address": address,
            "domain": address.rpartition("@")[2],
            "recipient": address,
            "parameters": "",
            "attempts": 0,
            "isDelayReported": False,
            "createdAt": NOON,
            **fields,
        }
    )


@dataclass
class Row:
    """A row of the queue in memory."""

    item: QueueItem
    state: str = "waiting"
    nextAttemptAt: datetime = NOON
    claim: str = ""
    until: datetime = NOON
    reply: str = ""
    settled: int = 0
    recipients: tuple[Recipient, ...] = ()
    forwards: tuple[Forward, ...] = ()


@implementer(IQueue)
class MemoryQueue:
    """IQueue, for as long as `fault` is None; while `held` is a list, answers wait in it."""

    def __init__(self, *items: QueueItem, octets: bytes = OCTETS) -> None:
        self.rows = {item.id: Row(item) for item in items}
        self.octets = octets
        self.reports: list[Message] = []
        self.asked: list[str] = []
        self.fault: Exception | None = None
        self.faults: dict[str, Exception] = {}  # by method
        self.held: list[Callable[[], None]] | None = None
        self.excluded: list[set[str]] = []
        self._claims = 0

    def add(self, *items: QueueItem) -> None:
        self.rows.update({item.id: Row(item) for item in items})

    def states(self) -> dict[int, str]:
        return {id: row.state for id, row in self.rows.items()}

    def _answer(self, method: str, make: Callable[[], Any]) -> Deferred[Any]:
        self.asked.append(method)
        fault = self.faults.get(method, self.fault)
        if fault is not None:
            return fail(fault)
        if self.held is None:
            return succeed(make())
        later: Deferred[Any] = Deferred()
        self.held.append(lambda: later.callback(make()))
        return later

    def claim(
        self, limit: int, now: datetime, until: datetime, excluded: Collection[str]
    ) -> Deferred[list[QueueItem]]:
        self.excluded.append(set(excluded))
        self._claims += 1
        claim = f"claim{self._claims}"

        def make() -> list[QueueItem]:
            claimed = []
            for row in sorted(self.rows.values(), key=lambda row: row.nextAttemptAt):
                isDue = row.state == "waiting" and row.nextAttemptAt <= now
                isFree = not row.claim or row.until <= now
                if isDue and isFree and row.item.domain not in excluded and len(claimed) < limit:
                    row.claim, row.until = claim, until
                    claimed.append(replace(row.item, claim=claim))
            return claimed

        return self._answer("claim", make)

    def _mine(self, items: Sequence[QueueItem]) -> list[Row]:
        rows = [(self.rows.get(item.id), item) for item in items]
        return [row for row, item in rows if row is not None and row.claim == item.claim]

    def renew(self, items: Sequence[QueueItem], until: datetime) -> Deferred[None]:
        def make() -> None:
            for row in self._mine(items):
                row.until = until

        return self._answer("renew", make)

    def release(self, items: Sequence[QueueItem]) -> Deferred[None]:
        def make() -> None:
            for row in self._mine(items):
                row.claim = ""

        return self._answer("release", make)

    def settle(
        self, outcomes: Sequence[Outcome], report: Message | None, now: datetime
    ) -> Deferred[bool]:
        if report is not None and "report" in self.faults:
            return fail(self.faults["report"])

        def make() -> bool:
            isNews = False
            for outcome in outcomes:
                row = self.rows.get(outcome.item.id)
                if row is None or row.state != "waiting" or row.claim != outcome.item.claim:
                    continue
                isNews = True
                row.state, row.reply, row.claim = outcome.state, outcome.reply, ""
                row.nextAttemptAt = outcome.nextAttemptAt or now
                row.settled += 1
                row.recipients, row.forwards = outcome.recipients, outcome.forwards
                row.item = replace(
                    row.item,
                    attempts=row.item.attempts + 1,
                    isDelayReported=row.item.isDelayReported or outcome.isDelayReported,
                )
            if isNews and report is not None:
                self.reports.append(report)
            return isNews

        return self._answer("settle", make)

    def read(self, messageId: str, index: int) -> Deferred[bytes]:
        def make() -> bytes:
            part = self.octets[index << 20 : (index + 1) << 20]
            if not part:
                raise CannotStore("gone")
            return part

        try:
            return self._answer("read", make)
        except CannotStore as error:
            return fail(error)


@implementer(IDirectory)
class Directory:
    """Knows alice (user 1) at example.org, and what `known` holds; all else at example.org is
    unknown, or elsewhere."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.isSlow = False
        self.known = {"alice@example.org": Resolution(r.RECIPIENT_OK, (1,))}

    def resolve(self, forwardPath: Mailbox) -> Any:
        if self.fault is not None:
            return fail(self.fault)
        if str(forwardPath) in self.known:
            found = self.known[str(forwardPath)]
        elif forwardPath.domain == "example.org":
            found = Resolution(r.NO_SUCH_USER)
        else:
            found = Resolution(r.RECIPIENT_OK, (), (str(forwardPath),))
        return succeed(found) if self.isSlow else found

    def verify(self, string: str) -> Reply:
        raise NotImplementedError

    def expand(self, string: str) -> Reply:
        raise NotImplementedError


class FakeTransport:
    """A connection to a next hop; the test, or the `Net`, says what it answers."""

    def __init__(self, net: Net, name: str) -> None:
        self.net = net
        self.hostname = f"mx.{name}"
        self.isConnected = True
        self.sent: list[Envelope] = []
        self.pending: list[tuple[Envelope, Deferred[SendResult]]] = []

    def isActive(self, keyword: str) -> bool:
        return keyword in self.net.keywords

    def send(self, envelope: Envelope) -> Deferred[SendResult]:
        assert self.isConnected
        self.sent.append(envelope)
        self.net.sent.append(envelope)
        answer: Deferred[SendResult] = Deferred(lambda _: self.cut(local.ABORTED))
        self.pending.append((envelope, answer))
        if self.net.isQuick:
            self.answer(self.net.reply)
        return answer

    def answer(self, *replies: Reply) -> None:
        """Answer the message under way: one reply for each recipient, or one for all."""
        envelope, answer = self.pending.pop(0)
        each = replies if len(replies) > 1 else replies * len(envelope.recipients)
        pairs = zip(envelope.recipients, each, strict=True)
        answer.callback(SendResult(tuple(RecipientResult(to, said) for to, said in pairs)))

    def cut(self, reply: Reply = local.DROPPED) -> None:
        """The connection ends."""
        self.isConnected = False
        if self.pending:
            self.answer(reply)

    def quit(self) -> Deferred[None]:
        self.isConnected = False
        self.net.left.append(self)
        return succeed(None)

    def abort(self) -> None:
        self.cut(local.ABORTED)


@dataclass
class Net:
    """All next hops: what they answer. `refusals`: to a connection, by name. While `isSlow`,
    connections wait in `connecting`."""

    reply: Reply = ACCEPTED
    isQuick: bool = True
    isSlow: bool = False
    keywords: frozenset[str] = frozenset()
    refusals: dict[str, Reply | Exception] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    transports: list[FakeTransport] = field(default_factory=list)
    connecting: list[tuple[str, Deferred[FakeTransport]]] = field(default_factory=list)
    sent: list[Envelope] = field(default_factory=list)
    left: list[FakeTransport] = field(default_factory=list)

    def connect(self, name: str) -> Deferred[FakeTransport]:
        self.asked.append(name)
        if self.isSlow:
            answer: Deferred[FakeTransport] = Deferred()
            self.connecting.append((name, answer))
            return answer
        return self._connected(name)

    def _connected(self, name: str) -> Deferred[FakeTransport]:
        refusal = self.refusals.get(name)
        if isinstance(refusal, Exception):
            return fail(refusal)
        if refusal is not None:
            return fail(UnexpectedReply(refusal))
        self.transports.append(FakeTransport(self, name))
        return succeed(self.transports[-1])

    def let(self) -> None:
        """The connection that waits longest comes about, or is refused."""
        name, answer = self.connecting.pop(0)
        self._connected(name).chainDeferred(answer)


class Relay:
    """A worker over all these; `now` moves with the clock."""

    def __init__(
        self,
        *items: QueueItem,
        octets: bytes = OCTETS,
        log: Logger | None = None,
        **limits: Any,
    ) -> None:
        self.clock = Clock()
        self.queue = MemoryQueue(*items, octets=octets)
        self.directory = Directory()
        self.net = Net()
        reporter = Reporter(self.directory, HOST, self.now)
        self.delivery = Delivery(
            self.queue, reporter, self.clock, self.now, Schedule(jitter=0.0), lambda: 0.5, log
        )
        self.worker = QueueWorker(
            self.queue,
            self.delivery,
            self.net.connect,
            self.clock,
            self.now,
            here=Here(self.directory, ["EXAMPLE.org"]),
            limits=RelayLimits(**limits),
        )

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.clock.seconds())

    def run(self, *items: QueueItem) -> None:
        """Start, or look again."""
        self.queue.add(*items)
        if self.worker._isRunning:
            self.worker.poke()
        else:
            self.worker.start()

    def wait(self, **time: float) -> None:
        """Let time pass, a few seconds at a time."""
        seconds = timedelta(**time).total_seconds()
        step = max(1.0, seconds / 200)
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step


def envelopes(sent: Sequence[Envelope]) -> list[tuple[str, ...]]:
    """The recipients of each."""
    return [envelope.recipients for envelope in sent]


def contentOf(envelope: Envelope) -> bytes:
    """The octets that would go out."""
    content = envelope.content
    assert isinstance(content, bytes)
    return content
