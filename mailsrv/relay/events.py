"""Events for the application: out of the outbox, to a receiver, at least once, in order."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from inspect import isawaitable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, TimeoutError, gatherResults, succeed
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.interfaces import (
    Event,
    EventOutcome,
    EventRefused,
    IEventReceiver,
    IEventSource,
)
from mailsrv.relay.observer import StoredObserver

GATHER = 0.02  # seconds in which outcomes and pokes become one turn: 50 transactions a second
POLL = 5.0  # seconds until the outbox is looked at though nobody has poked
PRUNE = 60.0  # seconds between two looks for old rows
LAST_PAUSE = 30.0  # seconds, the longest, before a database that fails is asked again
LEASE_MARGIN = 60.0  # seconds of a claim beyond what its delivery may take


@dataclass(frozen=True, slots=True)
class RetryPlan:
    """When an event is tried again, in seconds: 5, 15, 45 … each three times the one before.

    No more than `longest`, each a fifth longer or shorter by chance. It is given up after
    `attempts`, or with the first that fails `days` after it was put up.
    """

    first: float = 5.0
    factor: float = 3.0
    longest: float = 21_600.0
    attempts: int = 30
    days: float = 5.0

    def delay(self, event: Event, asked: float | None) -> float:
        """Seconds until the next attempt; `asked`: what the receiver would like."""
        if asked is not None:
            return min(max(asked, 1.0), self.longest)
        grown = self.first * self.factor ** min(event.attempt - 1, 30)
        return min(grown, self.longest) * random.uniform(0.8, 1.2)

    def isOver(self, event: Event, now: datetime) -> bool:
        """Whether the attempt that has just failed was the last."""
        return event.attempt >= self.attempts or now - event.putUpAt >= timedelta(days=self.days)


def _now() -> datetime:
    return datetime.now(UTC)


class Courier:
    """Carries the events of one destination from the outbox to its receiver.

    `concurrency` deliveries at once, each of at most `timeout` seconds; what waits stays in the
    database. One transaction writes down what became of deliveries and claims the next. `now` is
    the wall clock, `clock` the one that timers follow. It owns the receiver, not the source.
    """

    def __init__(
        self,
        source: IEventSource,
        receiver: IEventReceiver,
        clock: IReactorTime,
        *,
        concurrency: int = 8,
        timeout: float = 30.0,
        plan: RetryPlan | None = None,
        now: Callable[[], datetime] = _now,
        log: Logger | None = None,
    ) -> None:
        self._source = source
        self._receiver = receiver
        self._clock = clock
        self._concurrency = concurrency
        self._timeout = timeout
        self._plan = plan or RetryPlan()
        self._now = now
        self._log = log or Logger(namespace="smtpstore")
        self._underWay: set[Deferred[Any]] = set()
        self._outcomes: list[EventOutcome] = []
        self._alarm: IDelayedCall | None = None  # what ends the present rest
        self._isDue = False  # poked, or an outcome is there
        self._pause = 0.0  # grows while the database fails
        self._isTaken = True  # whether the last delivery was
        self._stopping = False
        self._gather = GATHER
        self._pruneAt = 0.0
        self._ended: Deferred[None] = succeed(None)

    def start(self) -> None:
        """Begin to deliver."""
        self._pruneAt = self._clock.seconds() + PRUNE
        self._ended = Deferred.fromCoroutine(self._run())

    def poke(self) -> None:
        """Something was stored: look soon. Quick, and may be called for every message."""
        if not self._isDue and len(self._underWay) < self._concurrency:
            self._soon()

    def stop(self, limit: float = 3.0) -> Deferred[None]:
        """Claim no more, give what is under way `limit` seconds, write down what became of it.

        Over after twice `limit`, also where the database hangs; what it has not been told by
        then is delivered once more.
        """
        self._stopping = True
        self._rouse(0.0)
        timer = self._clock.callLater(limit, self._interrupt)
        self._ended.addTimeout(2 * limit, self._clock, onTimeoutCancel=lambda *_: None)

        def close(_: object) -> Deferred[None]:
            if timer.active():
                timer.cancel()
            self._interrupt()
            return self._receiver.close()

        return self._ended.addCallback(close)

    def _interrupt(self) -> None:
        for delivery in list(self._underWay):
            delivery.cancel()

    # Turns

    async def _run(self) -> None:
        while True:
            self._isDue = False
            await self._turn()
            if self._stopping and not self._underWay and (self._pause or not self._outcomes):
                return
            await self._prune()
            await self._rest()

    async def _turn(self) -> None:
        """Write outcomes, claim events, begin to deliver them."""
        outcomes, self._outcomes = self._outcomes, []
        room = 0 if self._stopping else self._concurrency - len(self._underWay)
        if not outcomes and not room:
            return
        lease = self._timeout + LEASE_MARGIN
        began = self._clock.seconds()
        receiver = self._receiver
        try:
            events = await self._source.turn(
                receiver.destination, outcomes, room, lease, receiver.octets
            )
        except Exception as error:
            self._outcomes[:0] = outcomes
            if not self._pause:
                self._log.error("Events cannot be had: {error}", error=error)
            self._pause = min(2 * self._pause or 1.0, LAST_PAUSE)
            return
        self._pause = 0.0
        took = self._clock.seconds() - began
        # A database that is slow, or has much to look through, is not asked all the time.
        self._gather = min(max(GATHER, took), POLL)
        # Of a claim that took too long to come, another server may have the event by the end.
        if took < LEASE_MARGIN:
            for event in events:
                self._deliver(event)

    async def _prune(self) -> None:
        now = self._clock.seconds()
        if self._pause or self._stopping or now < self._pruneAt:
            return
        self._pruneAt = now + PRUNE
        try:
            if await self._source.prune():
                self._pruneAt = now
        except Exception as error:
            self._log.warn("Old events cannot be removed: {error}", error=error)

    def _rest(self) -> Deferred[None]:
        over: Deferred[None] = Deferred()
        seconds = self._pause or (self._gather if self._isDue else POLL)
        self._alarm = self._clock.callLater(seconds, over.callback, None)
        return over

    def _soon(self) -> None:
        self._isDue = True
        if not self._pause:
            self._rouse(self._gather)

    def _rouse(self, seconds: float) -> None:
        """Rest no longer than so many seconds."""
        alarm, latest = self._alarm, self._clock.seconds() + seconds
        if alarm is not None and alarm.active() and alarm.getTime() > latest:
            alarm.reset(seconds)

    # One delivery

    def _deliver(self, event: Event) -> None:
        delivery: Deferred[Any] = self._receiver.receive(event)
        self._underWay.add(delivery)
        delivery.addTimeout(self._timeout, self._clock)
        delivery.addCallbacks(self._taken, self._refused, (event,), {}, (event,), {})
        delivery.addCallback(self._done, delivery)

    def _done(self, outcome: EventOutcome, delivery: Deferred[Any]) -> None:
        self._underWay.discard(delivery)
        self._outcomes.append(outcome)
        self._soon()

    def _taken(self, _: object, event: Event) -> EventOutcome:
        if not self._isTaken:
            self._isTaken = True
            self._log.info(
                "{destination} takes events again", destination=self._receiver.destination
            )
        return EventOutcome(event.key)

    def _refused(self, failure: Failure, event: Event) -> EventOutcome:
        now = self._now()
        if self._stopping and failure.check(CancelledError):
            return EventOutcome(event.key, "the server was stopped", now)
        error = failure.value
        reason = self._reason(failure)
        isGone = isinstance(error, EventRefused) and error.isGone
        isOver = isGone or self._plan.isOver(event, now)
        if isOver or self._isTaken:
            self._log.warn(
                "{destination} has not taken the event of message {id}{final}: {reason}{trace}",
                destination=self._receiver.destination,
                id=event.id,
                final=", it is given up; see: smtpstore events replay" if isOver else "",
                reason=reason,
                trace="" if isinstance(error, _EXPECTED) else f"\n{failure.getTraceback()}",
            )
        self._isTaken = False
        if isOver:
            return EventOutcome(event.key, reason)
        asked = error.retryAfter if isinstance(error, EventRefused) else None
        return EventOutcome(
            event.key, reason, now + timedelta(seconds=self._plan.delay(event, asked))
        )

    def _reason(self, failure: Failure) -> str:
        error = failure.value
        if isinstance(error, TimeoutError):
            return f"not taken within {self._timeout:g} seconds"
        return str(error) if isinstance(error, EventRefused) else f"{type(error).__name__}: {error}"


_EXPECTED = (EventRefused, TimeoutError)


@implementer(IEventReceiver)
class CallableReceiver:
    """Events go to a callable of the program that embeds the server.

    It is called with each Event in the reactor thread, and has taken it when it returns, or when
    the Deferred or coroutine it returned is done; what it raises has the event tried again.
    `destination` names its rows in the outbox; `octets`: the largest message wanted raw.
    """

    def __init__(
        self,
        function: Callable[[Event], Awaitable[object] | object],
        destination: str = "application",
        octets: int = 0,
    ) -> None:
        self._function = function
        self.destination = destination
        self.octets = octets

    def receive(self, event: Event) -> Deferred[None]:
        return Deferred.fromCoroutine(self._call(event))

    async def _call(self, event: Event) -> None:
        result = self._function(event)
        if isawaitable(result):
            await result

    def close(self) -> Deferred[None]:
        return succeed(None)


class Couriers(StoredObserver):
    """All couriers of a server, started, poked and stopped together.

    An observer of sessions: each message that was stored pokes them.
    """

    def __init__(self, couriers: Iterable[Courier]) -> None:
        super().__init__(self._pokeAll)
        self._couriers = list(couriers)

    def start(self) -> None:
        """Begin to deliver."""
        for courier in self._couriers:
            courier.start()

    def stop(self, limit: float = 3.0) -> Deferred[None]:
        """Stop them all; over after twice `limit` seconds."""
        stopped = gatherResults([courier.stop(limit) for courier in self._couriers])
        return stopped.addCallback(lambda _: None)

    def _pokeAll(self) -> None:
        for courier in self._couriers:
            courier.poke()
