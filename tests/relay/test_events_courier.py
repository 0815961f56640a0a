"""Couriers: order, retries, limits and leases, with an injected clock over a real outbox."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock, deferLater
from twisted.logger import LogEvent, Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailsrv.interfaces import Event, EventRefused, IEventReceiver, ISessionObserver
from mailsrv.relay.events import (
    GATHER,
    LEASE_MARGIN,
    POLL,
    PRUNE,
    CallableReceiver,
    Courier,
    Couriers,
    RetryPlan,
)
from mailsrv.store.sqlevents import KEPT
from outbox import EPOCH, Outbox, mail

EXACT = RetryPlan(factor=1.0, first=10.0)  # give or take a fifth
TIMEOUT = 30.0


@implementer(IEventReceiver)
class Receiver:
    """Holds each event until the test says what becomes of it."""

    def __init__(self, destination: str = "app") -> None:
        self.destination = destination
        self.octets = 0
        self.seen: list[Event] = []
        self.held: list[Deferred[None]] = []
        self.closed = 0

    def receive(self, event: Event) -> Deferred[None]:
        self.seen.append(event)
        self.held.append(Deferred())
        return self.held[-1]

    def close(self) -> Deferred[None]:
        self.closed += 1
        return succeed(None)

    def ids(self) -> list[str]:
        return [event.id for event in self.seen]

    def take(self) -> None:
        self.held.pop(0).callback(None)

    def refuse(self, *args: Any, **kw: Any) -> None:
        self.held.pop(0).errback(EventRefused(*args, **kw))


class Office(Outbox):
    """An outbox, a clock, a courier and the receiver it serves."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        super().__init__(path, self.clock.seconds)
        self.log: list[LogEvent] = []
        self.receiver = Receiver()

    def courier(self, receiver: Any = None, **options: Any) -> Courier:
        options = {"plan": EXACT, "now": self.now, "timeout": TIMEOUT, **options}
        log = Logger(observer=self.log.append)
        receiver = receiver or self.receiver
        return Courier(self.events, receiver, self.clock, log=log, **options)

    def pass_(self, seconds: float) -> None:
        """Let time go by in small steps, as a reactor does."""
        self.clock.pump([0.5] * round(seconds * 2))

    def settle(self) -> None:
        """Time enough for a turn, too little for a poll."""
        self.clock.pump([GATHER, GATHER])

    def lines(self) -> list[str]:
        return [formatEvent(event) for event in self.log]


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path)


def resultOf(deferred: Deferred[Any]) -> Any:
    return SynchronousTestCase().successResultOf(deferred)


# When


def test_what_waited_before_the_start_is_delivered_at_once(office: Office) -> None:
    office.put(mail())
    office.courier().start()
    assert len(office.receiver.seen) == 1


def test_a_poke_has_the_event_delivered_soon(office: Office) -> None:
    courier = office.courier()
    courier.start()
    office.put(mail())
    courier.poke()
    assert office.receiver.seen == []  # not within whoever pokes
    office.settle()
    assert len(office.receiver.seen) == 1


def test_without_a_poke_it_is_found_when_the_outbox_is_looked_at(office: Office) -> None:
    office.courier().start()
    office.put(mail())
    office.clock.advance(POLL)
    assert len(office.receiver.seen) == 1


def test_many_pokes_are_one_look(office: Office) -> None:
    courier = office.courier()
    courier.start()
    before = office.pool.interactions
    for _ in range(100):
        courier.poke()
    office.clock.advance(GATHER)
    assert office.pool.interactions == before + 1


def test_a_poke_while_the_database_is_being_asked_is_not_lost(office: Office) -> None:
    asked: Deferred[list[Event]] = Deferred()
    office.events.turn, turn = lambda *args: asked, office.events.turn
    courier = office.courier()
    courier.start()
    office.put(mail())
    courier.poke()
    office.events.turn = turn
    asked.callback([])
    office.settle()
    assert len(office.receiver.seen) == 1


def test_with_no_room_left_a_poke_costs_no_query(office: Office) -> None:
    office.put(mail("a@x"), mail("b@x"))
    courier = office.courier(concurrency=1)
    courier.start()
    before = office.pool.interactions
    courier.poke()
    office.clock.advance(POLL)
    assert office.pool.interactions == before


# Order and room


def test_one_recipients_events_go_one_after_the_other_also_across_retries(office: Office) -> None:
    first, second, other = mail("a@x.example"), mail("a@x.example"), mail("b@x.example")
    office.put(first, second, other)
    office.courier().start()
    receiver = office.receiver
    assert receiver.ids() == [first.id, other.id]
    receiver.refuse("HTTP 500")
    receiver.take()
    office.pass_(7)
    assert receiver.ids() == [first.id, other.id]
    office.pass_(13)
    assert receiver.ids()[2:] == [first.id]
    receiver.take()
    office.settle()
    assert receiver.ids()[3:] == [second.id]


def test_no_more_than_its_number_are_delivered_at_once(office: Office) -> None:
    office.put(*(mail(f"{n}@x") for n in range(5)))
    office.courier(concurrency=2).start()
    assert len(office.receiver.held) == 2
    office.receiver.take()
    office.settle()
    assert (len(office.receiver.held), len(office.receiver.seen)) == (2, 3)


def test_a_receiver_that_hangs_delays_no_other(office: Office) -> None:
    stuck, quick = Receiver("stuck"), Receiver("quick")
    office.put(*(mail() for _ in range(3)), to=("stuck", "quick"))
    for receiver in (stuck, quick):
        office.courier(receiver).start()
    for _ in range(3):
        quick.take()
        office.settle()
    assert (len(quick.seen), len(stuck.seen)) == (3, 1)


# Failing


def test_an_event_that_is_refused_is_tried_again_under_the_same_id(office: Office) -> None:
    message = mail()
    office.put(message)
    office.courier().start()
    for _ in range(3):
        office.receiver.refuse("HTTP 500")
        office.pass_(13 + POLL)
    assert office.receiver.ids() == [message.id] * 4
    assert [event.attempt for event in office.receiver.seen] == [1, 2, 3, 4]


def test_intervals_grow_up_to_a_limit_and_are_never_the_same() -> None:
    plan = RetryPlan()
    event = Event(1, "x", 1, EPOCH, EPOCH, "", (), None, 0, "")
    for attempt, seconds in ((1, 5), (2, 15), (3, 45), (9, 21_600), (10_000, 21_600)):
        delays = {plan.delay(_at(event, attempt), None) for _ in range(20)}
        assert len(delays) > 1
        assert all(0.8 * seconds <= delay <= 1.2 * seconds for delay in delays)


def _at(event: Event, attempt: int) -> Event:
    from dataclasses import replace

    return replace(event, attempt=attempt)


@pytest.mark.parametrize(("asked", "given"), [(100.0, 100.0), (-5.0, 1.0), (1e9, 21_600.0)])
def test_what_the_receiver_asks_for_is_honoured_within_reason(
    office: Office, asked: float, given: float
) -> None:
    office.put(mail())
    office.courier().start()
    office.receiver.refuse("HTTP 429", retryAfter=asked)
    office.settle()
    at = EPOCH + timedelta(seconds=given)
    assert office.rows()[0]["next_attempt_at"][:19] == str(at)[:19]


def test_who_is_gone_gets_no_second_attempt(office: Office) -> None:
    office.put(mail(), mail())
    office.courier().start()
    office.receiver.refuse("HTTP 410", isGone=True)
    office.settle()
    assert office.states() == ["dead", "waiting"]
    assert len(office.receiver.seen) == 2  # the next for the same recipient
    [line] = office.lines()
    assert "given up; see: smtpstore events replay: HTTP 410" in line


def test_it_is_given_up_after_so_many_attempts(office: Office) -> None:
    office.put(mail())
    office.courier(plan=RetryPlan(10.0, 1.0, attempts=3)).start()
    for _ in range(3):
        office.receiver.refuse("HTTP 500")
        office.pass_(13 + POLL)
    assert office.states() == ["dead"]
    assert office.receiver.held == []


def test_it_is_given_up_with_the_first_failure_after_so_many_days(office: Office) -> None:
    office.put(mail())
    office.clock.advance(86_400 * 5)
    office.courier().start()
    office.receiver.refuse("HTTP 500")
    office.settle()
    assert office.states() == ["dead"]


def test_a_receiver_that_does_not_answer_has_failed(office: Office) -> None:
    office.put(mail())
    office.courier().start()
    office.pass_(TIMEOUT + 1)
    [row] = office.rows()
    assert (row["state"], row["last_error"]) == ("waiting", "not taken within 30 seconds")
    assert row["claimed_by"] is None


def test_a_receiver_that_fails_is_said_once_and_once_when_it_has_recovered(office: Office) -> None:
    office.put(*(mail(f"{n}@x") for n in range(3)))
    office.courier().start()
    for _ in range(3):
        office.receiver.refuse("HTTP 500: sorry")
    office.pass_(13 + POLL)
    for _ in range(3):
        office.receiver.take()
    first, last = office.lines()
    assert first.startswith("app has not taken the event of message 01")
    assert first.endswith(": HTTP 500: sorry")
    assert last == "app takes events again"


# The database fails


def test_a_database_that_fails_is_asked_less_and_less_and_nothing_is_lost(office: Office) -> None:
    office.put(mail("a@x"), mail("b@x"))
    courier = office.courier(concurrency=1)
    courier.start()
    office.pool.errors = [sqlite3.OperationalError("disk I/O error")] * 4
    office.receiver.take()
    before = office.pool.interactions
    office.pass_(1 + 2)
    courier.poke()  # does not shorten the pause
    office.settle()
    assert office.pool.interactions == before + 2
    office.pass_(4 + 8 + 1)
    assert office.states() == ["delivered", "waiting"]
    assert len(office.receiver.seen) == 2  # the first was not delivered twice
    assert office.lines() == ["Events cannot be had: disk I/O error"]


def test_a_database_that_takes_long_is_given_as_long_to_rest(office: Office) -> None:
    asked = []

    def turn(*args: Any) -> Deferred[list[Event]]:
        asked.append(args)
        return deferLater(office.clock, 1.0, list)

    office.events.turn = turn
    courier = office.courier()
    courier.start()
    office.clock.advance(1.0)
    courier.poke()
    office.clock.advance(0.9)
    assert len(asked) == 1
    office.clock.advance(0.1)
    assert len(asked) == 2


def test_of_a_claim_that_came_too_late_nothing_is_delivered(office: Office) -> None:
    turn = office.events.turn
    late: Deferred[None] = Deferred()

    def slowTurn(*args: Any) -> Deferred[list[Event]]:
        events = turn(*args)
        return late.addCallback(lambda _: events)

    office.events.turn = slowTurn
    office.put(mail())
    office.courier().start()
    office.clock.advance(LEASE_MARGIN)
    office.events.turn = turn
    late.callback(None)
    assert office.receiver.seen == []
    office.pass_(TIMEOUT + POLL)  # the claim lapses
    assert [event.attempt for event in office.receiver.seen] == [2]


# Old rows


def test_old_rows_are_removed_as_time_goes_by(office: Office) -> None:
    office.put(*(mail(f"{n}@x") for n in range(600)))
    office.rows("UPDATE events SET state = 'delivered' RETURNING id")
    office.clock.advance(KEPT["delivered"].total_seconds() + 1)
    office.courier().start()
    assert len(office.rows()) == 600
    office.clock.advance(PRUNE)
    assert len(office.rows()) == 100
    office.clock.advance(POLL)
    assert office.rows() == []


def test_old_rows_that_cannot_be_removed_stop_nothing(office: Office) -> None:
    def prune() -> Deferred[bool]:
        raise OSError("no")

    office.events.prune = prune
    office.courier().start()
    office.pass_(PRUNE + POLL)
    office.put(mail())
    office.clock.advance(POLL)
    assert len(office.receiver.seen) == 1
    assert "Old events cannot be removed: no" in office.lines()


# Stopping


def test_a_stop_lets_deliveries_end_and_writes_down_what_became_of_them(office: Office) -> None:
    office.put(mail("a@x"), mail("b@x"), mail("c@x"))
    courier = office.courier(concurrency=2)
    courier.start()
    stopped = courier.stop()
    office.receiver.take()
    office.settle()
    assert not stopped.called
    office.receiver.take()
    office.settle()
    resultOf(stopped)
    assert office.states() == ["delivered", "delivered", "waiting"]
    assert len(office.receiver.seen) == 2  # nothing more was claimed
    assert office.receiver.closed == 1
    assert office.clock.getDelayedCalls() == []


def test_a_stop_interrupts_what_takes_too_long_and_it_is_due_at_once(office: Office) -> None:
    office.put(mail())
    courier = office.courier()
    courier.start()
    stopped = courier.stop(3.0)
    office.pass_(3)
    office.settle()
    resultOf(stopped)
    [row] = office.rows()
    assert (row["state"], row["last_error"]) == ("waiting", "the server was stopped")
    assert (row["claimed_by"], row["next_attempt_at"]) == (None, "2026-01-01 00:00:03.000000")
    assert office.lines() == []


def test_a_stop_does_not_wait_for_a_database_that_fails(office: Office) -> None:
    office.put(mail())
    courier = office.courier()
    courier.start()
    office.receiver.take()
    office.pool.errors = [sqlite3.OperationalError("disk I/O error")] * 5
    stopped = courier.stop()
    office.settle()
    resultOf(stopped)


def test_a_stop_does_not_wait_for_a_database_that_hangs(office: Office) -> None:
    office.events.turn = lambda *args: Deferred()
    courier = office.courier()
    courier.start()
    stopped = courier.stop(3.0)
    office.pass_(6)
    resultOf(stopped)
    assert office.receiver.closed == 1


def test_what_is_not_started_can_be_stopped(office: Office) -> None:
    resultOf(office.courier().stop())
    assert office.clock.getDelayedCalls() == []


def test_the_couriers_of_a_server_start_hear_and_stop_together(office: Office) -> None:
    receivers = [Receiver("app"), Receiver("other")]
    couriers = Couriers([office.courier(receiver) for receiver in receivers])
    verifyObject(ISessionObserver, couriers)
    couriers.start()
    message = mail()
    office.put(message, to=("app", "other"))
    couriers.sessionOpened(None)
    couriers.commandRefused(None, "RCPT", b"", None)
    couriers.messageStored(None, message, 0.0)
    couriers.sessionClosed(None, "")
    office.settle()
    assert [receiver.ids() for receiver in receivers] == [[message.id], [message.id]]
    stopped = couriers.stop()
    for receiver in receivers:
        receiver.take()
    office.settle()
    resultOf(stopped)
    assert [receiver.closed for receiver in receivers] == [1, 1]


# A callable


@pytest.mark.parametrize("kind", ["plain", "deferred", "coroutine"])
def test_a_callable_has_taken_an_event_when_it_is_done(office: Office, kind: str) -> None:
    seen: list[str] = []
    done: Deferred[None] = Deferred()

    def plain(event: Event) -> None:
        seen.append(event.id)

    def deferred(event: Event) -> Deferred[None]:
        seen.append(event.id)
        return done

    async def coroutine(event: Event) -> None:
        await done
        seen.append(event.id)

    functions: dict[str, Callable[[Event], Any]] = {
        "plain": plain, "deferred": deferred, "coroutine": coroutine
    }  # fmt: skip
    message = mail()
    receiver = CallableReceiver(functions[kind], "app")
    verifyObject(IEventReceiver, receiver)
    office.put(message)
    courier = office.courier(receiver)
    courier.start()
    office.settle()
    assert office.states() == ["delivered" if kind == "plain" else "waiting"]
    done.callback(None)
    office.settle()
    assert (office.states(), seen) == (["delivered"], [message.id])
    stopped = courier.stop()
    office.settle()
    resultOf(stopped)


def test_what_a_callable_raises_is_tried_again_and_its_traceback_logged(office: Office) -> None:
    def function(event: Event) -> None:
        raise KeyError("ticket")

    office.put(mail())
    office.courier(CallableReceiver(function, "app")).start()
    office.settle()
    [row] = office.rows()
    assert (row["state"], row["last_error"]) == ("waiting", "KeyError: 'ticket'")
    assert "in function" in office.lines()[0]


def test_a_callable_that_takes_too_long_is_cancelled(office: Office) -> None:
    cancelled = []

    async def function(event: Event) -> None:
        try:
            await Deferred()
        except CancelledError:
            cancelled.append(event)
            raise

    office.put(mail())
    office.courier(CallableReceiver(function, "app")).start()
    office.pass_(TIMEOUT)
    assert len(cancelled) == 1


def test_couriers_need_no_treq() -> None:
    program = "import sys; import mailsrv.relay.events; sys.exit('treq' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
