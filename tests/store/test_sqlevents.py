"""The outbox in SQL: what is put up, who gets it, in which order, and what is left of it."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailsrv.interfaces import Event, EventOutcome, IEventSource
from mailsrv.smtp.message import BytesContent, Recipient, Summary
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.queries.events import replayEventTxn
from mailsrv.store.sqlevents import KEPT, SqlEvents
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing import makeMessage
from outbox import EPOCH, Outbox, ids, mail

LEASE = 90.0


class World(Outbox):
    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        super().__init__(path, self.clock.seconds)

    def claim(
        self, limit: int = 10, server: SqlEvents | None = None, to: str = "app", octets: int = 0
    ) -> list[Event]:
        return self.turn([], limit, server, to, octets)

    def turn(
        self,
        outcomes: list[EventOutcome],
        limit: int = 0,
        server: SqlEvents | None = None,
        to: str = "app",
        octets: int = 0,
    ) -> list[Event]:
        turn = (server or self.events).turn(to, outcomes, limit, LEASE, octets)
        return SynchronousTestCase().successResultOf(turn)

    def retry(self, event: Event, seconds: float) -> None:
        at = self.now() + timedelta(seconds=seconds)
        self.turn([EventOutcome(event.key, "HTTP 500", at)])

    def replay(self, index: int) -> bool:
        txn = self.pool.connection.cursor()
        isReplayed = replayEventTxn(txn, self.rows()[index], self.now())
        self.pool.connection.commit()
        return isReplayed

    def prune(self) -> bool:
        return SynchronousTestCase().successResultOf(self.events.prune())


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_it_is_an_event_source(world: World) -> None:
    verifyObject(IEventSource, world.events)


# What an event says


def test_an_event_says_all_there_is_about_its_message(world: World) -> None:
    date = datetime(1999, 1, 1, tzinfo=UTC)
    given = makeMessage(
        b"Subject: s\r\n\r\ntext\r\n",
        receivedAt=EPOCH,
        sender="",
        recipients=(Recipient("Zoë@example.com", 7, "NOTIFY=NEVER"), Recipient("b@example.com")),
        summary=Summary("s", date, "text\n", "<1@x>"),
        parameters="SIZE=5",
        helo="h",
        peer="192.0.2.1",
        protocol="ESMTPS",
    )
    world.put(given)
    [event] = world.claim()
    assert event == Event(
        key=1,
        id=given.id,
        attempt=1,
        putUpAt=EPOCH,
        receivedAt=EPOCH,
        sender="",
        recipients=given.recipients,
        summary=given.summary,
        size=given.content.size,
        sha256=given.content.sha256,
        parameters="SIZE=5",
        helo="h",
        peer="192.0.2.1",
        protocol="ESMTPS",
    )


def test_the_raw_message_comes_where_it_is_asked_for_and_small_enough(world: World) -> None:
    small, large = b"x" * 100, b"y" * (3 * 2**20 + 1)
    world.put(
        *(mail(f"{n}@x.example", content=BytesContent(o)) for n, o in enumerate((small, large)))
    )
    assert [event.raw for event in world.claim(octets=100)] == [small, None]
    world.clock.advance(LEASE)
    assert [event.raw for event in world.claim(octets=2**22)] == [small, large]


def test_no_subject_no_date_and_no_text_are_none(world: World) -> None:
    world.put(mail())
    assert world.claim()[0].summary == Summary()


# The transaction of the message


@pytest_twisted.ensureDeferred
async def test_the_store_puts_up_an_event_for_each_destination(world: World) -> None:
    from twisted.internet import reactor

    pool = ConnectionPool(world.dialect, reactor, 1)
    # One that is given twice is one.
    store = SqlStore(pool, reactor, destinations=["app", "https://app.example/", "app"])
    for _ in range(3):
        await store.store(mail())
    await store.close()
    shown = [(row["destination"], row["state"]) for row in world.rows()]
    assert sorted(shown) == [("app", "waiting")] * 3 + [("https://app.example/", "waiting")] * 3


@pytest_twisted.ensureDeferred
async def test_a_store_without_destinations_puts_up_nothing(world: World) -> None:
    from twisted.internet import reactor

    store = SqlStore(ConnectionPool(world.dialect, reactor, 1), reactor)
    await store.store(mail())
    await store.close()
    assert world.rows() == []


def test_no_messages_put_up_nothing(world: World) -> None:
    world.put()
    assert world.rows() == []


def test_with_its_message_goes_the_event(world: World) -> None:
    world.put(mail())
    world.rows("DELETE FROM messages RETURNING id")
    assert (world.rows(), world.lanes()) == ([], 0)


# Order


def test_events_come_in_the_order_of_their_messages(world: World) -> None:
    messages = [mail(f"{n}@example.com") for n in range(200)]
    world.put(*messages)
    assert ids(world.claim(500)) == [message.id for message in messages]


def test_an_event_waits_for_the_one_before_it_to_the_same_address(world: World) -> None:
    first, second, other = mail("a@x.example"), mail("A@X.example"), mail("b@x.example")
    world.put(first, second, other)
    [event, unrelated] = world.claim()
    assert ids([event, unrelated]) == [first.id, other.id]
    assert world.claim() == []
    world.retry(event, 60)
    assert world.claim() == []  # it is between two attempts
    world.clock.advance(60)
    [again] = world.claim()
    assert (again.id, again.attempt) == (first.id, 2)
    assert ids(world.turn([EventOutcome(again.key)], 10)) == [second.id]


def test_a_mailbox_has_one_order_whatever_addresses_lead_to_it(world: World) -> None:
    sales = mail(7)
    bob = mail(7, 8)
    eve = mail(8)
    world.put(sales, bob, eve)
    for message in (sales, bob, eve):
        [event] = world.claim()
        assert event.id == message.id
        world.turn([EventOutcome(event.key)])


def test_a_dead_event_blocks_nobody(world: World) -> None:
    first, second = mail(), mail()
    world.put(first, second)
    [event] = world.claim()
    assert ids(world.turn([EventOutcome(event.key, "HTTP 410")], 10)) == [second.id]
    assert world.states() == ["dead", "waiting"]


def test_destinations_do_not_wait_for_one_another(world: World) -> None:
    first, second = mail(), mail()
    world.put(first, second, to=("app", "slow"))
    world.claim(to="slow")
    [event] = world.claim()
    assert ids(world.turn([EventOutcome(event.key)], 10)) == [second.id]
    assert world.claim(to="slow") == []


def test_no_more_are_claimed_than_there_is_room_for(world: World) -> None:
    world.put(*(mail(f"{n}@example.com") for n in range(5)))
    assert [len(world.claim(2)) for _ in range(4)] == [2, 2, 1, 0]


# Claims


def test_two_servers_never_have_the_same_event(world: World) -> None:
    world.put(*(mail(f"{n}@example.com") for n in range(6)))
    other = world.server()
    one, two = world.claim(3), world.claim(10, other)
    assert (len(one), len(two)) == (3, 3)
    assert not set(ids(one)) & set(ids(two))


def test_a_claim_that_another_wins_meanwhile_comes_back_empty(world: World) -> None:
    world.put(mail())
    connection = world.pool.connection

    class Thief:
        """A cursor that lets the other server in between looking and claiming."""

        def __init__(self) -> None:
            self.cursor = connection.cursor()

        def __getattr__(self, name: str) -> object:
            return getattr(self.cursor, name)

        def execute(self, sql: str, values: object) -> None:
            if sql.startswith("UPDATE"):
                connection.execute(
                    "UPDATE events SET claimed_by = 'thief', claimed_until = '2026-01-02'"
                )
            self.cursor.execute(sql, values)

    assert world.events._exchangeTxn(Thief(), "app", [], 10, LEASE) == []


def test_what_a_server_that_died_had_claimed_is_free_after_the_lease(world: World) -> None:
    world.put(mail())
    world.claim()
    other = world.server()
    world.clock.advance(LEASE - 1)
    assert world.claim(server=other) == []
    world.clock.advance(1)
    [event] = world.claim(server=other)
    assert event.attempt == 2


def test_who_lost_its_claim_cannot_postpone_or_kill_the_event(world: World) -> None:
    world.put(mail())
    [event] = world.claim()
    world.clock.advance(LEASE)
    other = world.server()
    world.claim(server=other)
    claimed = world.rows()
    world.retry(event, 1)
    world.turn([EventOutcome(event.key, "HTTP 410")])
    assert world.rows() == claimed
    assert world.lanes() == 1


def test_who_lost_its_claim_but_delivered_spares_the_others_the_trouble(world: World) -> None:
    world.put(mail())
    [event] = world.claim()
    world.clock.advance(LEASE)
    other = world.server()
    [again] = world.claim(server=other)
    world.turn([EventOutcome(event.key)])
    world.turn([EventOutcome(again.key, "HTTP 500", world.now())], server=other)
    assert (world.states(), world.lanes()) == (["delivered"], 0)


def test_an_event_deleted_between_claim_and_reading_is_left_out(world: World) -> None:
    world.put(mail())
    run = world.pool.runInteraction

    def runAndDelete(*args: object) -> object:
        done = run(*args)
        world.pool.connection.execute("DELETE FROM message_parts")
        world.pool.connection.execute("PRAGMA foreign_keys = OFF")
        world.pool.connection.execute("DELETE FROM messages")
        return done

    world.pool.runInteraction = runAndDelete
    assert world.claim() == []


# Outcomes


def test_what_became_of_an_event_stands_in_its_row(world: World) -> None:
    world.put(mail())
    [event] = world.claim()
    [row] = world.rows()
    assert row["claimed_until"] == "2026-01-01 00:01:30.000000"
    world.retry(event, 60)
    [row] = world.rows()
    assert (row["last_error"], row["attempts"]) == ("HTTP 500", 1)
    assert row["next_attempt_at"] == "2026-01-01 00:01:00.000000"
    assert (row["claimed_by"], row["claimed_until"]) == (None, None)
    world.clock.advance(61)
    world.turn([EventOutcome(world.claim()[0].key)])
    [row] = world.rows()
    assert (row["state"], row["last_error"], row["attempts"]) == ("delivered", None, 2)
    assert row["next_attempt_at"] == "2026-01-01 00:01:01.000000"


def test_any_error_text_finds_its_place(world: World) -> None:
    world.put(mail())
    [event] = world.claim()
    world.turn([EventOutcome(event.key, "\udcff" + "😀" * 1000)])
    assert world.rows()[0]["last_error"] == "\ufffd" + "😀" * 499


def test_a_collision_with_another_server_is_tried_again(world: World) -> None:
    busy = sqlite3.OperationalError("database is locked")
    busy.sqlite_errorname = "SQLITE_BUSY"
    world.put(mail())
    world.pool.errors = [busy] * 4
    assert len(world.claim()) == 1
    world.pool.errors = [busy] * 5
    turn = world.events.turn("app", [], 1, LEASE, 0)
    SynchronousTestCase().failureResultOf(turn, sqlite3.OperationalError)


def test_a_database_that_is_down_is_not_pestered(world: World) -> None:
    world.pool.errors = [sqlite3.OperationalError("disk I/O error")]
    turn = world.events.turn("app", [], 1, LEASE, 0)
    SynchronousTestCase().failureResultOf(turn, sqlite3.OperationalError)
    assert world.pool.interactions == 1


# Replay and pruning


def test_a_replayed_event_begins_anew_under_its_id_and_before_later_ones(world: World) -> None:
    first, second = mail(), mail()
    world.put(first, second)
    [event] = world.claim()
    world.turn([EventOutcome(event.key, "HTTP 410")])
    world.clock.advance(3600)
    assert world.replay(0)
    [again] = world.claim()
    assert (again.id, again.key, again.attempt) == (first.id, event.key, 1)
    assert again.putUpAt == EPOCH + timedelta(hours=1)


def test_what_is_being_delivered_just_now_is_not_replayed(world: World) -> None:
    world.put(mail())
    world.claim()
    assert not world.replay(0)


def test_a_waiting_event_that_is_replayed_is_due_at_once(world: World) -> None:
    world.put(mail())
    world.retry(world.claim()[0], 3600)
    assert world.replay(0)
    assert len(world.claim()) == 1
    assert world.lanes() == 1


def test_old_events_go_when_their_time_has_come(world: World) -> None:
    world.put(mail("a@x"), mail("b@x"), to=("app", "other"))
    delivered, dead = world.claim()
    world.turn([EventOutcome(delivered.key), EventOutcome(dead.key, "HTTP 410")])
    world.clock.advance(KEPT["delivered"].total_seconds())
    assert not world.prune()
    assert world.states() == ["delivered", "waiting", "dead", "waiting"]
    world.clock.advance(1)
    assert not world.prune()
    assert world.states() == ["waiting", "dead", "waiting"]
    world.clock.advance(KEPT["waiting"].total_seconds())
    world.prune()
    assert world.states() == ["dead", "dead", "dead"]
    assert world.lanes() == 0
    assert "nobody has delivered" in world.rows()[0]["last_error"]
    world.clock.advance(KEPT["dead"].total_seconds())
    world.prune()
    world.clock.advance(1)
    world.prune()
    assert world.rows() == []


def test_an_event_under_way_or_between_attempts_is_not_abandoned(world: World) -> None:
    world.put(mail("a@x"), mail("b@x"))
    world.clock.advance(KEPT["waiting"].total_seconds() + 1)
    world.retry(world.claim(1)[0], 1)
    world.claim(1)
    world.prune()
    assert world.states() == ["waiting", "waiting"]


def test_much_is_removed_a_bit_at_a_time(world: World) -> None:
    world.put(*(mail(f"{n}@x") for n in range(700)))
    world.turn([EventOutcome(event.key) for event in world.claim(1000)])
    world.clock.advance(KEPT["delivered"].total_seconds() + 1)
    assert world.prune()
    assert len(world.rows()) == 200
    assert not world.prune()
    assert world.rows() == []


# A large backlog


def test_the_next_event_is_found_quickly_behind_a_large_backlog(world: World) -> None:
    world.put(*(mail() for _ in range(3000)), mail("other@example.com"))
    world.claim(1)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    world.pool.connection.set_progress_handler(step, 100)
    assert len(world.claim()) == 1
    world.pool.connection.set_progress_handler(None, 0)
    assert steps * 100 < 3000 * 100  # a look or two at each, not one at all the others for each
