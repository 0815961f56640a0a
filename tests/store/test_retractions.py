"""What was answered as failed is taken out if its COMMIT comes through all the same."""

from __future__ import annotations

import sqlite3

from faultydialect import FaultyStoreCase, commitAndLose, lose

from mailsrv.smtp.errors import Unavailable
from mailsrv.smtp.message import Message
from mailsrv.testing import CountingContent, makeMessage


class RetractionTests(FaultyStoreCase):
    def losesAtCommit(self, losses: int) -> Message:
        """A message whose COMMIT happens without an answer, the database being gone at once."""
        self.dialect.atCommit.append(commitAndLose)
        self.dialect.atConnect += [lose] * losses
        message = makeMessage()
        answer = self.store(message)
        self.dialect.atConnect[:0] = [lose] * losses
        self.clock.pump([0.5] * 64)
        self.failureResultOf(answer, Unavailable)
        return message

    def test_what_is_found_when_the_database_is_back_is_removed(self) -> None:
        self.successResultOf(self.store(makeMessage()))
        message = self.losesAtCommit(1000)
        self.assertTrue(self.isThere(message))
        self.dialect.atConnect.clear()
        self.clock.pump([0.5] * 3)
        self.assertFalse(self.isThere(message))
        self.assertIn("Removed 1 messages that were answered 421", self.logged[-1])

    def test_it_goes_on_until_it_is_done_and_then_rests(self) -> None:
        self.successResultOf(self.store(makeMessage()))
        self.losesAtCommit(1000)
        self.clock.pump([0.5] * 200)
        self.assertEqual(len(self.clock.getDelayedCalls()), 1)
        self.dialect.atConnect.clear()
        self.clock.pump([0.5] * 3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_nobody_is_told_of_what_never_was_there(self) -> None:
        self.successResultOf(self.store(makeMessage()))
        self.dialect.atCommit.append(lose)
        answer = self.store(makeMessage())
        self.assertNoResult(answer)
        self.dialect.atConnect += [lose] * 1000
        self.clock.pump([0.5] * 64)
        self.failureResultOf(answer, Unavailable)
        self.dialect.atConnect.clear()
        self.clock.pump([0.5] * 3)
        self.assertNot("Removed" in " ".join(self.logged))

    def assertNot(self, condition: bool) -> None:
        self.assertFalse(condition, self.logged)

    def test_other_mail_is_stored_and_stays_meanwhile(self) -> None:
        self.successResultOf(self.store(makeMessage()))
        self.losesAtCommit(1000)
        self.dialect.atConnect.clear()
        other = makeMessage()
        self.successResultOf(self.store(other))
        self.clock.pump([0.5] * 3)
        self.assertTrue(self.isThere(other))

    def test_a_commit_that_takes_longer_than_anybody_waits_is_undone(self) -> None:
        def slowly(connection: sqlite3.Connection) -> None:
            self.clock.advance(40)
            connection.commit()

        self.dialect.atCommit.append(slowly)
        content = CountingContent(b"x")
        message = makeMessage(content=content)
        self.failureResultOf(self.store(message), Unavailable)
        self.assertFalse(self.isThere(message))
        self.assertEqual(content.closed, 1)

    def test_what_everybody_has_given_up_is_undone_though_nothing_is_left_to_write(self) -> None:
        """The COMMIT has no answer; before the look for it comes through, the sender has gone."""
        self.successResultOf(self.store(makeMessage()))
        self.dialect.atCommit.append(commitAndLose)
        message = makeMessage()
        answer = self.store(message)
        self.dialect.atCursor.append(lambda _: self.clock.advance(40))
        self.clock.pump([0.05])
        self.failureResultOf(answer, Unavailable)
        self.clock.pump([0.5] * 3)
        self.assertFalse(self.isThere(message))

    def test_at_the_end_what_is_not_settled_is_named(self) -> None:
        self.successResultOf(self.store(makeMessage()))
        message = self.losesAtCommit(1000)
        self.successResultOf(self.sqlStore.close())
        self.assertIn("error Answered 421, and perhaps stored", self.logged[-1])
        self.assertIn(message.id, self.logged[-1])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class ProbeTests(FaultyStoreCase):
    """While one asks whether the database is still down, the others are answered at once."""

    def test_a_database_is_down_from_its_loss_to_its_first_answer(self) -> None:
        self.dialect.atConnect.append(lose)
        self.failureResultOf(self.store(makeMessage()), Unavailable)
        self.assertTrue(self.pool.isDown)
        self.successResultOf(self.store(makeMessage()))
        self.assertFalse(self.pool.isDown)

    def test_a_message_that_is_at_fault_itself_leaves_it_up(self) -> None:
        message = makeMessage()
        self.successResultOf(self.store(message))
        self.failureResultOf(self.store(message))
        self.assertFalse(self.pool.isDown)

    def test_behind_a_probe_nobody_waits(self) -> None:
        self.pool.isDown, self.pool.outstanding = True, 1
        content = CountingContent(b"x")
        self.failureResultOf(self.store(makeMessage(content=content)), Unavailable)
        self.assertEqual(content.closed, 1)
        self.pool.outstanding = 0
        self.successResultOf(self.store(makeMessage()))

    def test_of_one_turn_of_the_reactor_too_only_the_first_asks(self) -> None:
        self.pool.isDown = True
        first = self.sqlStore.store(makeMessage())
        self.failureResultOf(self.sqlStore.store(makeMessage()), Unavailable)
        self.clock.advance(0)
        self.successResultOf(first)
        together = [self.sqlStore.store(makeMessage()) for _ in range(2)]
        self.clock.advance(0)
        for answer in together:
            self.successResultOf(answer)
