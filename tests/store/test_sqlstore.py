"""The SQL store: the contract on the real SQLite, and the table of faults on a pool at hand."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import pytest_twisted
from faultydialect import FaultyStoreCase, commitAndLose, lose
from zope.interface.verify import verifyObject

from mailsrv.interfaces import IMessageStore
from mailsrv.smtp.errors import CannotStore, OutOfRoom, Unavailable
from mailsrv.smtp.message import Message
from mailsrv.store.dialect import SqliteDialect
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing import (
    CountingContent,
    GatedContent,
    Store,
    StoreContract,
    makeMessage,
    readMessage,
)


class SqliteContract(StoreContract):
    def __init__(self, path: Path) -> None:
        self.dialect = SqliteDialect(path / "mail.db")
        upgrade(self.dialect)

    def makeStore(self, timeout: float = 30.0) -> Store:
        from twisted.internet import reactor

        return SqlStore(ConnectionPool(self.dialect, reactor, 1), reactor, timeout)

    def read(self, id: str) -> Message | None:
        return readMessage(self.dialect, id)


@pytest.mark.parametrize("check", SqliteContract.checks())
@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_sqlite_store_keeps_the_contract(check: str, tmp_path: Path) -> None:
    await getattr(SqliteContract(tmp_path), check)()


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_closing_does_not_wait_for_a_thread_that_hangs(tmp_path: Path) -> None:
    from twisted.internet import reactor

    dialect = SqliteDialect(tmp_path / "mail.db")
    upgrade(dialect)
    store = SqlStore(ConnectionPool(dialect, reactor, 1), reactor)
    content = GatedContent(b"x")
    hung = makeMessage(content=content)
    answer = store.store(hung)
    closed = store.close(limit=0.05)
    await StoreContract.assertFails(answer, Unavailable)
    content.gate.set()
    await closed
    assert readMessage(dialect, hung.id) is None
    assert content.closed == 1


class FaultTests(FaultyStoreCase):
    def other(self) -> sqlite3.Connection:
        connection = SqliteDialect(self.path, busyTimeout=0).connect()
        self.addCleanup(connection.close)
        return connection

    def assertStoredOnce(self, message: Message) -> None:
        kept = readMessage(SqliteDialect(self.path), message.id)
        assert kept is not None
        StoreContract.assertSame(kept, message)

    def assertAbsent(self, message: Message) -> None:
        self.assertFalse(self.isThere(message))

    def test_what_is_withdrawn_while_the_last_inserts_are_answered_is_not_committed(self) -> None:
        """Only behind all of them there is no way back."""

        @contextmanager
        def answeredLate(txn: object) -> Iterator[None]:
            yield
            self.clock.advance(30.5)

        self.dialect.pipelined = answeredLate  # type: ignore[method-assign]
        message = makeMessage()
        self.failureResultOf(self.store(message), Unavailable)
        self.assertFalse(self.isThere(message))

    def test_is_a_message_store(self) -> None:
        verifyObject(IMessageStore, self.sqlStore)

    # Transient

    def test_a_locked_database_is_tried_again_until_it_is_free(self) -> None:
        blocker = self.other()
        blocker.execute("BEGIN IMMEDIATE")
        message = makeMessage()
        answer = self.store(message)
        self.clock.pump([0.05, 0.1, 0.2])
        self.assertNoResult(answer)
        blocker.rollback()
        self.clock.pump([0.4])
        self.assertEqual(self.successResultOf(answer), message.id)
        self.assertStoredOnce(message)
        self.assertEqual(self.logged, [])

    def test_a_database_locked_until_the_deadline_is_unavailable(self) -> None:
        blocker = self.other()
        blocker.execute("BEGIN IMMEDIATE")
        message = makeMessage()
        answer = self.store(message)
        self.clock.pump([0.5] * 60)
        self.failureResultOf(answer, Unavailable)
        blocker.rollback()
        self.clock.pump([1] * 60)
        self.assertAbsent(message)

    def test_messages_that_come_during_the_pause_are_stored_after_it(self) -> None:
        blocker = self.other()
        blocker.execute("BEGIN IMMEDIATE")
        messages = [makeMessage() for _ in range(3)]
        answers = [self.store(message) for message in messages]
        blocker.rollback()
        self.clock.pump([0.05])
        for message, answer in zip(messages, answers, strict=True):
            self.assertEqual(self.successResultOf(answer), message.id)

    # Unavailable, full, tables

    def test_a_lost_connection_is_made_anew_and_nobody_notices(self) -> None:
        self.successResultOf(self.store(makeMessage()))
        self.dialect.atCursor.append(lose)
        message = makeMessage()
        self.successResultOf(self.store(message))
        self.assertStoredOnce(message)
        self.assertEqual(self.dialect.connections, 2)

    def test_a_database_that_is_down_is_unavailable_at_once_and_said_once(self) -> None:
        self.dialect.atConnect += [lose, lose]
        for _ in range(2):
            self.failureResultOf(self.store(makeMessage()), Unavailable)
        self.successResultOf(self.store(makeMessage()))
        self.assertEqual(
            self.logged,
            [
                f"error SQLite file {self.path} takes no mail: server has gone away",
                f"info SQLite file {self.path} takes mail again",
            ],
        )

    def test_a_database_file_that_was_removed_is_not_written_into_any_more(self) -> None:
        self.successResultOf(self.store(makeMessage()))
        aside = self.path.rename(self.path.with_suffix(".aside"))
        lost = makeMessage()
        self.failureResultOf(self.store(lost), Unavailable)
        self.assertFalse(self.path.exists())
        aside.rename(self.path)
        message = makeMessage()
        self.successResultOf(self.store(message))
        self.assertStoredOnce(message)
        self.assertAbsent(lost)

    def test_a_full_database_is_out_of_room_until_there_is_some(self) -> None:
        def limit(connection: sqlite3.Connection) -> None:
            connection.execute("PRAGMA max_page_count = 60")

        self.dialect.atCursor.append(limit)
        large = makeMessage(b"x" * 3_000_000)
        self.failureResultOf(self.store(large), OutOfRoom)
        self.assertAbsent(large)
        small = makeMessage()
        self.successResultOf(self.store(small))
        self.assertStoredOnce(small)

    def test_missing_tables_are_unavailable_and_the_log_says_what_to_do(self) -> None:
        self.other().execute("ALTER TABLE recipients RENAME TO gone")
        message = makeMessage()
        for _ in range(2):
            self.failureResultOf(self.store(message), Unavailable)
        (line,) = self.logged
        self.assertTrue(line.startswith("critical The tables of SQLite file"), line)
        self.assertIn("smtpstore init", line)
        self.assertAbsent(message)

    # Anything else

    def test_a_message_that_cannot_be_stored_fails_alone(self) -> None:
        other = self.other()
        other.execute(
            "CREATE TRIGGER poison BEFORE INSERT ON messages WHEN NEW.sender = 'poison'"
            " BEGIN SELECT RAISE(ABORT, 'I do not like it'); END"
        )
        blocker = self.other()
        blocker.execute("BEGIN IMMEDIATE")
        first = self.store(makeMessage())
        messages = [makeMessage(sender="poison" if n == 33 else "") for n in range(51)]
        answers = [self.store(message) for message in messages]
        blocker.rollback()
        self.clock.pump([0.05])
        self.successResultOf(first)
        self.failureResultOf(answers[33], CannotStore)
        self.assertAbsent(messages[33])
        for number in set(range(51)) - {33}:
            self.assertEqual(self.successResultOf(answers[number]), messages[number].id)
            self.assertStoredOnce(messages[number])
        (line,) = self.logged
        self.assertIn(f"error Message {messages[33].id} from 'poison' cannot be stored", line)

    def test_an_id_that_is_taken_never_counts_as_stored(self) -> None:
        message = makeMessage(b"mine")
        self.successResultOf(self.store(message))
        again = makeMessage(b"another", id=message.id)
        self.failureResultOf(self.store(again), CannotStore)
        self.assertStoredOnce(message)

    def test_a_content_that_cannot_be_closed_is_logged_and_the_answer_stands(self) -> None:
        class Stuck(CountingContent):
            def close(self) -> None:
                raise OSError("stuck")

        message = makeMessage(content=Stuck(b"x"))
        self.assertEqual(self.successResultOf(self.store(message)), message.id)
        (line,) = self.logged
        self.assertIn(f"The content of {message.id} could not be closed", line)

    # Outcome unknown

    def test_a_commit_that_happened_without_an_answer_is_found_and_answered(self) -> None:
        self.assertUnknown([commitAndLose], [])

    def test_a_commit_that_did_not_happen_is_done_again(self) -> None:
        self.assertUnknown([lose], [])

    def test_the_outcome_is_looked_up_once_the_database_is_back(self) -> None:
        self.assertUnknown([commitAndLose], [lose, lose, lose])

    def test_a_second_loss_is_looked_up_too(self) -> None:
        self.assertUnknown([lose, commitAndLose], [])

    def assertUnknown(
        self,
        atCommit: list[Callable[[sqlite3.Connection], None]],
        atConnect: list[Callable[[], None]],
    ) -> None:
        self.successResultOf(self.store(makeMessage()))
        self.dialect.atCommit += atCommit
        self.dialect.atConnect += atConnect
        message = makeMessage(b"x" * 2_500_000)
        answer = self.store(message)
        self.assertNoResult(answer)
        self.clock.pump([0.05, 0.1, 0.2, 0.4, 0.8])
        self.assertEqual(self.successResultOf(answer), message.id)
        self.assertStoredOnce(message)
        self.assertIn("takes mail again", self.logged[-1])

    def test_an_outcome_still_unknown_at_the_deadline_is_unavailable(self) -> None:
        self.dialect.atCommit.append(lose)
        answer = self.store(makeMessage())
        self.dialect.atConnect += [lose] * 100
        self.clock.pump([0.5] * 64)
        self.failureResultOf(answer, Unavailable)

    def test_a_commit_that_comes_through_while_its_outcome_is_looked_up_counts(self) -> None:
        """The old connection's COMMIT may be carried out after the new one has read the ids."""
        message = makeMessage()

        def late(connection: sqlite3.Connection) -> None:
            # Seen at the next COMMIT in place of it: the first has come through meanwhile.
            connection.commit()
            error = sqlite3.IntegrityError("UNIQUE constraint failed: messages.id")
            error.sqlite_errorname = "SQLITE_CONSTRAINT_PRIMARYKEY"
            raise error

        self.dialect.atCommit += [lose, late]
        answer = self.store(message)
        self.clock.pump([0.05, 0.1])
        self.assertEqual(self.successResultOf(answer), message.id)
        self.assertStoredOnce(message)

    def test_what_was_given_up_while_its_outcome_was_unknown_is_taken_out(self) -> None:
        blocker = self.other()
        blocker.execute("BEGIN IMMEDIATE")
        first = self.store(makeMessage())
        given = [makeMessage(), makeMessage()]
        early = self.store(given[0])
        self.clock.advance(5)
        late = self.store(given[1])
        blocker.rollback()
        self.dialect.atCommit += [sqlite3.Connection.commit, commitAndLose]
        self.dialect.atConnect += [lose] * 30
        self.clock.pump([0.1] * 2)
        self.successResultOf(first)
        self.clock.pump([0.1] * 290)
        self.failureResultOf(early, Unavailable)
        self.assertEqual(self.successResultOf(late), given[1].id)
        self.assertAbsent(given[0])
        self.assertStoredOnce(given[1])

    # The end

    def test_a_closed_store_refuses_and_has_closed_its_pool(self) -> None:
        message = makeMessage()
        self.successResultOf(self.store(message))
        self.successResultOf(self.sqlStore.close())
        content = CountingContent(b"x")
        self.failureResultOf(self.store(makeMessage(content=content)), Unavailable)
        self.assertEqual(content.closed, 1)
        self.failureResultOf(self.pool.runInteraction(lambda txn: None), Unavailable)
        self.assertEqual(self.pool.connections, {})
        self.assertFalse(self.path.with_name("mail.db-wal").exists())

    def test_a_pool_that_takes_no_more_is_unavailable(self) -> None:
        self.pool.finalClose()
        self.failureResultOf(self.store(makeMessage()), Unavailable)
