"""The queue on real tables: who claims, what an outcome leaves, and what a report is stored with."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, fail, gatherResults

from mailsrv.interfaces import Outcome, QueueItem
from mailsrv.smtp.errors import CannotStore, OutOfRoom, Unavailable
from mailsrv.smtp.message import Forward, Recipient
from mailsrv.store.dialect import SqliteDialect, parseUrl
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool, OutcomeUnknown
from mailsrv.store.queries import rowsTxn
from mailsrv.store.sqlqueue import ATTEMPTS, SqlQueue
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing import makeMessage, readMessage

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
LEASE = timedelta(minutes=5)


class Tables:
    """A database with a store, and queues of several workers."""

    def __init__(self, url: str) -> None:
        from twisted.internet import reactor

        self.reactor = reactor
        self.dialect = parseUrl(url)
        upgrade(self.dialect)
        self.pool = ConnectionPool(self.dialect, reactor, 2)
        self.store = SqlStore(ConnectionPool(self.dialect, reactor, 1), reactor)
        self.queue = SqlQueue(self.pool, "mx1")

    async def put(self, *forwards: Forward, octets: bytes = b"Subject: x\r\n\r\n", **fields) -> str:
        message = makeMessage(octets, receivedAt=NOON, forwards=forwards, **fields)
        return await self.store.store(message)

    def rows(self, sql: str = "SELECT * FROM queue ORDER BY id") -> list[dict[str, Any]]:
        connection = self.dialect.connect()
        try:
            txn = connection.cursor()
            txn.execute(sql)
            return rowsTxn(txn)
        finally:
            connection.close()

    async def claim(self, limit=10, now=NOON, excluded=()) -> list[QueueItem]:
        return await self.queue.claim(limit, now, now + LEASE, excluded)


@pytest.fixture(params=["sqlite", "mariadb"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The same queue on every database."""
    if request.param == "sqlite":
        return f"sqlite:{tmp_path}/mail.db"
    return str(request.getfixturevalue("database").url)


@pytest_twisted.async_yield_fixture
async def tables(url: str) -> AsyncIterator[Tables]:
    tables = Tables(url)
    yield tables
    await tables.store.close()
    await tables.pool.close()


def to(address: str, recipient: str = "bob@example.com", parameters: str = "") -> Forward:
    return Forward(address, recipient, parameters)


def addresses(items: list[QueueItem]) -> list[str]:
    return [item.address for item in items]


@pytest_twisted.ensureDeferred
async def test_a_claimed_item_has_all_that_is_needed_to_send_it(tables: Tables) -> None:
    id = await tables.put(
        to("Zoë@BÜCHER.example", "bob@example.com", "NOTIFY=NEVER ORCPT=rfc822;bob@example.com"),
        sender="",
        parameters="RET=HDRS ENVID=e1",
        trace=b"Return-Path: <>\r\nReceived: from x\r\n",
    )
    [item] = await tables.claim()
    assert (item.address, item.domain) == ("Zoë@BÜCHER.example", "xn--bcher-kva.example")
    assert item.recipient == "bob@example.com"
    assert item.parameters == "NOTIFY=NEVER ORCPT=rfc822;bob@example.com"
    assert (item.attempts, item.isDelayReported, item.createdAt) == (0, False, NOON)
    message = item.message
    assert (message.id, message.sender, message.size) == (id, "", 14)
    assert (message.parameters, message.receivedAt) == ("RET=HDRS ENVID=e1", NOON)
    assert message.trace == b"Return-Path: <>\r\nReceived: from x\r\n"
    [row] = tables.rows()
    assert row["claimed_by"] == item.claim
    assert item.claim.startswith("mx1/")
    assert row["claimed_until"] == "2026-05-01 12:05:00.000000"


@pytest_twisted.ensureDeferred
async def test_what_is_claimed_is_nobody_elses_until_the_claim_lapses(tables: Tables) -> None:
    await tables.put(to("a@x.example"), to("b@x.example"))
    first = await tables.claim(limit=1)
    assert addresses(first) == ["a@x.example"]
    assert addresses(await tables.claim()) == ["b@x.example"]
    assert await tables.claim(now=NOON + LEASE - timedelta(seconds=1)) == []
    again = await tables.claim(now=NOON + LEASE)
    assert addresses(again) == ["a@x.example", "b@x.example"]
    assert again[0].claim != first[0].claim


@pytest_twisted.ensureDeferred
async def test_workers_that_claim_at_the_same_time_never_have_the_same_row(tables: Tables) -> None:
    await tables.put(*(to(f"u{number}@x.example") for number in range(60)))
    pools = [ConnectionPool(tables.dialect, tables.reactor, 1) for _ in range(4)]
    queues = [SqlQueue(pool, f"worker{number}") for number, pool in enumerate(pools)]
    claimed: list[QueueItem] = []
    while got := await gatherResults([q.claim(4, NOON, NOON + LEASE) for q in queues]):
        new = [item for items in got for item in items]
        if not new:
            break
        claimed += new
    await gatherResults([pool.close() for pool in pools])
    assert sorted(item.id for item in claimed) == list(range(1, 61))


@pytest_twisted.ensureDeferred
async def test_the_longest_due_come_first_and_excluded_domains_not_at_all(tables: Tables) -> None:
    await tables.put(to("late@x.example"), to("busy@busy.example"))
    [late, busy] = await tables.claim()
    await tables.queue.settle(
        [Outcome(late, "waiting", "450 no", NOON + timedelta(minutes=2))], None, NOON
    )
    await tables.queue.release([busy])
    await tables.put(to("new@x.example"))
    hour = NOON + timedelta(hours=1)
    assert addresses(await tables.claim(now=hour, excluded={"busy.example"})) == [
        "new@x.example",
        "late@x.example",
    ]
    assert addresses(await tables.claim(now=hour)) == ["busy@busy.example"]


@pytest_twisted.ensureDeferred
async def test_a_renewed_claim_lasts_longer_and_a_released_one_ends(tables: Tables) -> None:
    await tables.put(to("a@x.example"), to("b@x.example"))
    first, second = await tables.claim(limit=1), await tables.claim()
    later = NOON + 2 * LEASE
    await tables.queue.renew([*second, *first], later)
    assert await tables.claim(now=NOON + LEASE) == []
    await tables.queue.release(second)
    assert addresses(await tables.claim(now=NOON)) == ["b@x.example"]
    assert addresses(await tables.claim(now=later)) == ["a@x.example", "b@x.example"]


@pytest_twisted.ensureDeferred
async def test_who_lost_the_claim_can_neither_renew_nor_release_nor_defer(tables: Tables) -> None:
    await tables.put(to("a@x.example"))
    [old] = await tables.claim()
    [new] = await tables.claim(now=NOON + LEASE)
    await tables.queue.renew([old], NOON + 9 * LEASE)
    await tables.queue.release([old])
    for state in ("waiting", "failed"):
        outcome = Outcome(old, state, "450 no", NOON)
        assert not await tables.queue.settle([outcome], makeMessage(), NOON)
    [row] = tables.rows()
    assert (row["claimed_by"], row["state"], row["attempts"]) == (new.claim, "waiting", 0)
    assert row["claimed_until"] == "2026-05-01 12:10:00.000000"
    assert len(tables.rows("SELECT id FROM messages")) == 1  # no report


@pytest_twisted.ensureDeferred
async def test_what_was_sent_is_sent_even_if_the_claim_was_lost(tables: Tables) -> None:
    await tables.put(to("a@x.example"))
    [old] = await tables.claim()
    [new] = await tables.claim(now=NOON + LEASE)
    assert await tables.queue.settle([Outcome(old, "sent", "250 ok")], None, NOON)
    assert not await tables.queue.settle([Outcome(new, "failed", "550 no")], None, NOON)
    [row] = tables.rows()
    assert (row["state"], row["last_reply"], row["claimed_by"]) == ("sent", "250 ok", None)
    assert await tables.claim(now=NOON + timedelta(days=9)) == []


@pytest_twisted.ensureDeferred
async def test_what_is_deferred_is_due_again_at_its_time(tables: Tables) -> None:
    await tables.put(to("a@x.example"))
    [item] = await tables.claim()
    next = NOON + timedelta(minutes=5)
    await tables.queue.settle(
        [Outcome(item, "waiting", "450 " + "é" * 2000, next, True)], None, NOON
    )
    assert await tables.claim(now=next - timedelta(microseconds=1)) == []
    [again] = await tables.claim(now=next)
    assert (again.attempts, again.isDelayReported) == (1, True)
    await tables.queue.settle([Outcome(again, "waiting", "450", next)], None, NOON)
    [row] = tables.rows()
    assert (row["attempts"], row["delay_reported"], row["last_reply"]) == (2, 1, "450")


@pytest_twisted.ensureDeferred
async def test_a_report_is_stored_with_its_outcome_and_only_once(tables: Tables) -> None:
    await tables.put(to("a@x.example"), to("b@x.example"))
    items = await tables.claim()
    report = makeMessage(
        b"report", sender="", recipients=(Recipient("me@y", 7),), forwards=(to("me@z.example"),)
    )
    outcomes = [Outcome(items[0], "failed", "550 no"), Outcome(items[1], "sent", "250 ok")]
    assert await tables.queue.settle(outcomes, report, NOON)
    assert not await tables.queue.settle(outcomes, report, NOON)  # the COMMIT's answer was lost
    assert [row["state"] for row in tables.rows()] == ["failed", "sent", "waiting"]
    kept = readMessage(tables.dialect, report.id)
    assert kept is not None
    assert kept.content.head(99) == b"report"
    assert (kept.recipients, kept.forwards) == (report.recipients, report.forwards)


@pytest_twisted.ensureDeferred
async def test_where_an_address_of_ours_leads_is_written_with_its_outcome(tables: Tables) -> None:
    id = await tables.put(to("a@here.example"), recipients=(Recipient("bob@example.com"),))
    items = await tables.claim()
    outcome = Outcome(
        items[0], "sent", "250", recipients=(Recipient("a@here.example", 7, "NOTIFY=NEVER"),),
        forwards=(to("c@FAR.example"),),
    )  # fmt: skip
    for isNews in (True, False):
        assert await tables.queue.settle([outcome], None, NOON) == isNews
    kept = readMessage(tables.dialect, id)
    assert kept is not None
    assert kept.recipients == (
        Recipient("bob@example.com"),
        Recipient("a@here.example", 7, "NOTIFY=NEVER"),
    )
    assert addresses(await tables.claim()) == ["c@FAR.example"]


@pytest_twisted.ensureDeferred
async def test_a_report_is_an_event_like_any_other_message(tables: Tables) -> None:
    await tables.put(to("a@x.example"))
    queue = SqlQueue(tables.pool, "mx1", ["hook"])
    items = await queue.claim(1, NOON, NOON + LEASE)
    report = makeMessage(sender="")
    await queue.settle([Outcome(items[0], "failed", "550")], report, NOON)
    events = tables.rows("SELECT message_id, destination FROM events")
    assert events == [{"message_id": report.id, "destination": "hook"}]


@pytest_twisted.ensureDeferred
async def test_a_report_that_cannot_be_stored_undoes_its_outcome(tables: Tables) -> None:
    id = await tables.put(to("a@x.example"))
    items = await tables.claim()
    double = makeMessage(id=id)
    with pytest.raises(CannotStore):
        await tables.queue.settle([Outcome(items[0], "failed", "550")], double, NOON)
    assert [row["state"] for row in tables.rows()] == ["waiting"]


@pytest_twisted.ensureDeferred
async def test_content_is_read_part_by_part(tables: Tables) -> None:
    octets = bytes(range(256)) * 10_000  # 2.4 MiB
    id = await tables.put(to("a@x.example"), octets=octets)
    parts = [await tables.queue.read(id, index) for index in range(3)]
    assert [len(part) for part in parts] == [1 << 20, 1 << 20, len(octets) - (2 << 20)]
    assert b"".join(parts) == octets
    for missing in ((id, 3), ("nobody", 0)):
        with pytest.raises(CannotStore):
            await tables.queue.read(*missing)


@pytest_twisted.ensureDeferred
async def test_where_one_address_leads_to_several_none_of_them_reports_success(
    tables: Tables,
) -> None:
    notify = "NOTIFY=success,FAILURE ORCPT=rfc822;g@example.com"
    await tables.put(
        to("a@x.example", "group@example.com", notify),
        to("b@x.example", "group@example.com", "NOTIFY=SUCCESS"),
        to("c@x.example", "kept@example.com", notify),
        to("d@x.example", "alone@example.com", notify),
        recipients=(
            Recipient("group@example.com", None, notify),
            Recipient("kept@example.com", 3, notify),
            Recipient("alone@example.com", None, notify),
        ),
    )
    assert [row["parameters"] for row in tables.rows()] == [
        "NOTIFY=FAILURE ORCPT=rfc822;g@example.com",
        "NOTIFY=NEVER",
        "NOTIFY=FAILURE ORCPT=rfc822;g@example.com",
        notify,
    ]


# Faults


class Failing:
    """A pool whose transactions fail, one fault after the other, and then succeed."""

    def __init__(self, dialect: SqliteDialect, *faults: Exception) -> None:
        self.dialect = dialect
        self.faults = list(faults)

    def runInteraction(self, txn: Any, *args: Any) -> Deferred[Any]:
        if self.faults:
            return fail(self.faults.pop(0))
        result: Deferred[Any] = Deferred()
        result.callback([])
        return result


def fault(name: str) -> Exception:
    import sqlite3

    error = sqlite3.OperationalError("no")
    error.sqlite_errorname = name  # type: ignore[misc]
    return error


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ([fault("SQLITE_BUSY")] * (ATTEMPTS - 1), None),
        ([OutcomeUnknown("lost")] * (ATTEMPTS - 1), None),
        ([fault("SQLITE_BUSY")] * ATTEMPTS, Unavailable),
        ([OutcomeUnknown("lost")] * ATTEMPTS, Unavailable),
        ([fault("SQLITE_CANTOPEN")], Unavailable),
        ([fault("SQLITE_FULL")], OutOfRoom),
        ([fault("SQLITE_MISMATCH")], CannotStore),
        ([Unavailable("closed")], Unavailable),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_fault_of_the_database_becomes_an_answer(
    faults: list[Exception], expected: type[Exception] | None
) -> None:
    queue = SqlQueue(Failing(SqliteDialect("none"), *faults), "x" * 100)  # type: ignore[arg-type]
    claim = queue.claim(1, NOON, NOON)
    if expected is None:
        assert await claim == []
    else:
        with pytest.raises(expected):
            await claim
