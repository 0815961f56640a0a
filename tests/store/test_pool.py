"""The pool: real threads where it counts, none where it does not."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from faultydialect import FaultyDialect, InlinePool, Lost, commitAndLose, lose
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import capturedLogs, formatEvent

from mailsrv.smtp.errors import Unavailable
from mailsrv.store.dialect import SqliteDialect
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool, OutcomeUnknown

MIB = 1 << 20
INSERT = "INSERT INTO aliases (address, target) VALUES (?, ?)"


def insert(txn: Any, *addresses: str) -> int:
    for address in addresses:
        txn.execute(INSERT, (address, "x"))
    return len(addresses)


def addresses(txn: Any) -> list[str]:
    txn.execute("SELECT address FROM aliases ORDER BY address")
    return [row[0] for row in txn.fetchall()]


@pytest.fixture
def faulty(tmp_path: Path) -> FaultyDialect:
    return FaultyDialect(tmp_path / "mail.db")


@pytest.fixture
def inline(faulty: FaultyDialect) -> Any:
    pool = InlinePool(faulty)
    yield pool
    pool.finalClose()


def outcome(deferred: Deferred[Any]) -> Any:
    """The result, or the exception."""
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results[0]


# Without threads


def test_an_interaction_is_committed_and_gives_its_result(inline: InlinePool) -> None:
    assert outcome(inline.runInteraction(insert, "a@x", "b@x")) == 2
    assert outcome(inline.runQuery("SELECT count(*) FROM aliases")) == [(2,)]


def test_an_interaction_that_raises_is_undone(inline: InlinePool) -> None:
    def failing(txn: Any) -> None:
        insert(txn, "a@x")
        raise ZeroDivisionError

    assert isinstance(outcome(inline.runInteraction(failing)), ZeroDivisionError)
    assert outcome(inline.runInteraction(addresses)) == []


def test_a_connection_that_died_unnoticed_is_replaced_and_the_work_done_again(
    inline: InlinePool, faulty: FaultyDialect
) -> None:
    outcome(inline.runInteraction(insert, "a@x"))
    faulty.atCursor.append(lose)
    assert outcome(inline.runInteraction(insert, "b@x")) == 1
    assert outcome(inline.runInteraction(addresses)) == ["a@x", "b@x"]
    assert faulty.connections == 2


def test_a_new_connection_that_dies_is_not_replaced(
    inline: InlinePool, faulty: FaultyDialect
) -> None:
    faulty.atCursor += [lose, lose]
    assert isinstance(outcome(inline.runInteraction(insert, "a@x")), Lost)
    assert faulty.connections == 1
    assert inline.connections == {}


def test_work_is_done_again_only_once(inline: InlinePool, faulty: FaultyDialect) -> None:
    outcome(inline.runInteraction(insert, "a@x"))
    faulty.atCursor += [lose, lose]
    assert isinstance(outcome(inline.runInteraction(insert, "b@x")), Lost)
    assert outcome(inline.runInteraction(addresses)) == ["a@x"]


@pytest.mark.parametrize("fault", [lose, commitAndLose])
def test_a_connection_lost_in_commit_leaves_the_outcome_unknown_and_does_nothing_twice(
    inline: InlinePool, faulty: FaultyDialect, fault: Any
) -> None:
    outcome(inline.runInteraction(insert, "a@x"))
    faulty.atCommit.append(fault)
    assert isinstance(outcome(inline.runInteraction(insert, "b@x")), OutcomeUnknown)
    expected = ["a@x", "b@x"] if fault is commitAndLose else ["a@x"]
    assert outcome(inline.runInteraction(addresses)) == expected


def test_a_commit_refused_over_a_living_connection_is_known_not_to_have_happened(
    inline: InlinePool, faulty: FaultyDialect
) -> None:
    def refuse(_: object) -> None:
        raise ZeroDivisionError

    faulty.atCommit.append(refuse)
    assert isinstance(outcome(inline.runInteraction(insert, "a@x")), ZeroDivisionError)
    assert outcome(inline.runInteraction(addresses)) == []


def test_a_connection_that_cannot_roll_back_is_given_up_without_a_word(
    inline: InlinePool, faulty: FaultyDialect, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(txn: Any) -> None:
        raise ZeroDivisionError

    faulty.failsToRollBack = True
    assert isinstance(outcome(inline.runInteraction(failing)), ZeroDivisionError)
    faulty.failsToRollBack = False
    assert inline.connections == {}
    assert outcome(inline.runInteraction(insert, "a@x")) == 1


def test_a_connection_whose_file_was_replaced_is_made_anew(
    inline: InlinePool, faulty: FaultyDialect
) -> None:
    outcome(inline.runInteraction(insert, "a@x"))
    faulty.path.rename(faulty.path.with_suffix(".old"))
    upgrade(SqliteDialect(faulty.path))
    assert outcome(inline.runInteraction(addresses)) == []


def test_a_function_may_have_the_connection_itself(inline: InlinePool) -> None:
    def both(connection: Any, address: str) -> int:
        return insert(connection.cursor(), address)

    assert outcome(inline.runWithConnection(both, "a@x")) == 1
    assert outcome(inline.runInteraction(addresses)) == ["a@x"]


def test_a_pool_whose_reactor_never_ran_closes(faulty: FaultyDialect) -> None:
    pool = ConnectionPool(faulty, MemoryReactorClock(), 1)
    assert outcome(pool.close()) is None
    assert outcome(pool.close()) is None
    assert isinstance(outcome(pool.runInteraction(addresses)), Unavailable)


# With threads


async def assertFails(answer: Awaitable[Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        await answer


@pytest.fixture
def pool(tmp_path: Path) -> Any:
    from twisted.internet import reactor

    dialect = SqliteDialect(tmp_path / "mail.db")
    upgrade(dialect)
    pool = ConnectionPool(dialect, reactor, 1, "test", maxQueued=2)
    yield pool
    pytest_twisted.blockon(pool.close())


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_interactions_run_in_a_named_daemon_thread(pool: ConnectionPool) -> None:
    def thread(txn: Any) -> threading.Thread:
        return threading.current_thread()

    worker = await pool.runInteraction(thread)
    assert worker.daemon
    assert "test" in worker.name
    assert await pool.runInteraction(insert, "a@x") == 1


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_its_queue_is_bounded_also_by_what_was_given_up(pool: ConnectionPool) -> None:
    gate = threading.Event()

    def wait(txn: Any) -> bool:
        return gate.wait(20)

    given_up, waiting = pool.runInteraction(wait), pool.runInteraction(addresses)
    given_up.cancel()
    await assertFails(given_up, CancelledError)
    await assertFails(pool.runInteraction(addresses), Unavailable)
    gate.set()
    assert await waiting == []
    assert await pool.runInteraction(addresses) == []


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_closing_waits_for_what_runs(pool: ConnectionPool) -> None:
    answers = [pool.runInteraction(insert, "a@x"), pool.runInteraction(insert, "b@x")]
    closed = pool.close()
    await assertFails(pool.runInteraction(addresses), Unavailable)
    assert await gatherResults(answers) == [1, 1]
    await closed
    assert pool.connections == {}


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_closing_leaves_a_thread_that_hangs_to_itself(pool: ConnectionPool) -> None:
    gate = threading.Event()

    def wait(txn: Any) -> bool:
        return gate.wait(20)

    hung = pool.runInteraction(wait)
    await pool.close(limit=0.05)
    assert not pool.running
    gate.set()
    assert await hung is True


class Tidying(SqliteDialect):
    """Tidies up after each interaction that writes, when it is let, or fails to; in the same
    thread, or beside."""

    def __init__(self, path: Path, isBeside: bool) -> None:
        super().__init__(path)
        self.isBeside = isBeside
        self.gate = threading.Event()
        self.tidied = 0
        self.fault: Exception | None = None

    def wrote(self, connection: Any, octets: int) -> bool:
        return octets > 0

    def tidyUp(self, connection: Any) -> Callable[[], None] | None:
        if self.isBeside:
            return self._tidy
        self._tidy()
        return None

    def _tidy(self) -> None:
        assert self.gate.wait(20)
        if self.fault is not None:
            raise self.fault
        self.tidied += 1


@pytest.fixture(params=[False, True], ids=["same-thread", "beside"])
def tidying(pool: ConnectionPool, tmp_path: Path, request: pytest.FixtureRequest) -> Any:
    pool.dialect = dialect = Tidying(tmp_path / "mail.db", request.param)
    yield dialect
    dialect.gate.set()


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_the_answer_comes_before_the_thread_tidies_up(
    pool: ConnectionPool, tidying: Tidying
) -> None:
    deadline = pool._reactor.seconds() + 20
    assert await pool.runInteractionBy(deadline, 1, insert, "a@x") == 1
    assert tidying.tidied == 0
    tidying.gate.set()
    assert await pool.runInteraction(addresses) == ["a@x"]
    await pool.close()
    assert tidying.tidied == 1


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_who_writes_does_not_wait_for_what_is_done_beside(
    pool: ConnectionPool, tmp_path: Path
) -> None:
    pool.dialect = tidying = Tidying(tmp_path / "mail.db", isBeside=True)
    deadline = pool._reactor.seconds() + 20
    await pool.runInteractionBy(deadline, 1, insert, "a@x")
    assert await pool.runInteraction(addresses) == ["a@x"]
    assert tidying.tidied == 0
    tidying.gate.set()
    await pool.close()
    assert tidying.tidied == 1


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_closing_waits_for_a_thread_that_tidies_up(
    pool: ConnectionPool, tidying: Tidying
) -> None:
    await pool.runInteractionBy(pool._reactor.seconds() + 20, 1, insert, "a@x")
    closed = pool.close()
    assert not closed.called
    tidying.gate.set()
    await closed
    assert tidying.tidied == 1


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_a_thread_that_cannot_tidy_up_says_so_and_goes_on(
    pool: ConnectionPool, tidying: Tidying
) -> None:
    tidying.fault = OSError("disk")
    tidying.gate.set()
    deadline = pool._reactor.seconds() + 20
    with capturedLogs() as events:
        assert await pool.runInteractionBy(deadline, 1, insert, "a@x") == 1
        assert await pool.runInteraction(addresses) == ["a@x"]
        await pool.close()
    assert [formatEvent(event) for event in events] == [
        f"{tidying.describe()} could not tidy up, no mail is lost by it: disk"
    ]


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_nobody_tidies_up_after_what_failed(pool: ConnectionPool, tidying: Tidying) -> None:
    tidying.gate.set()
    deadline = pool._reactor.seconds() + 20
    await assertFails(
        pool.runInteractionBy(deadline, 1, lambda txn: txn.execute("nonsense")),
        sqlite3.OperationalError,
    )
    assert await pool.runInteraction(addresses) == []
    assert tidying.tidied == 0


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_sqlites_log_does_not_grow_however_much_is_written(
    pool: ConnectionPool, tmp_path: Path
) -> None:
    def insertMib(txn: Any, n: int) -> None:
        txn.execute(INSERT, (f"{n}@x", "x" * MIB))

    path = tmp_path / "mail.db"
    with closing(sqlite3.connect(path)) as reader:  # who closes last would copy the log, too
        reader.execute("SELECT count(*) FROM aliases").fetchall()
        for n in range(200):
            await pool.runInteractionBy(pool._reactor.seconds() + 20, MIB, insertMib, n)
        await pool.close()
        assert path.stat().st_size > 100 * MIB
        assert path.with_name("mail.db-wal").stat().st_size < 64 * MIB
        assert reader.execute("SELECT count(*) FROM aliases").fetchall() == [(200,)]
