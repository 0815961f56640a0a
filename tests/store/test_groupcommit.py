"""Group commit, with a fake clock and commits that happen when the test says; no threads."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.smtp.errors import OutOfRoom, Unavailable
from mailsrv.store.groupcommit import MIB, PATIENCE, QUIET, Abandoned, Batch, GroupCommit

Answer = Deferred[str]


class Commits:
    """Batches under way, each until the test answers it; the reactor then has a turn."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.batches: list[Batch[str, str]] = []
        self.answers: list[Deferred[list[str | Exception] | None]] = []

    def __call__(self, batch: Batch[str, str]) -> Deferred[list[str | Exception] | None]:
        self.batches.append(batch)
        self.answers.append(Deferred())
        return self.answers[-1]

    @property
    def items(self) -> list[list[str]]:
        return [batch.items for batch in self.batches]

    def succeed(self, index: int = -1) -> None:
        batch = self.batches[index]
        self.answers[index].callback([f"{item} stored" for item in batch.items])
        self.clock.advance(0)


class GroupCommitTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.commits = Commits(self.clock)
        self.released: list[str] = []
        self.group = self.make()

    def make(self, **options: int) -> GroupCommit[str, str]:
        return GroupCommit(self.commits, self.clock, self.released.append, **options)

    def add(self, *items: str, cost: int = 1, seconds: float = 30.0) -> list[Answer]:
        """Each in a turn of the reactor of its own."""
        answers = []
        for item in items:
            answers.append(self.group.add(item, cost, self.clock.seconds() + seconds))
            self.clock.advance(0)
        return answers

    # Batches

    def test_an_idle_group_commits_at_once_and_answers_after_the_commit(self) -> None:
        (answer,) = self.add("a")
        self.assertEqual(self.commits.items, [["a"]])
        self.assertNoResult(answer)
        self.assertEqual(self.released, [])
        self.commits.succeed()
        self.assertEqual(self.successResultOf(answer), "a stored")
        self.assertEqual(self.released, ["a"])

    def test_what_comes_in_one_turn_of_the_reactor_is_committed_together(self) -> None:
        answers = [self.group.add(item, 1, 30.0) for item in "abc"]
        self.assertEqual((self.commits.items, self.group.waiting), ([], 3))
        self.clock.advance(0)
        self.assertEqual((self.commits.items, self.group.waiting), ([["a", "b", "c"]], 0))
        self.commits.succeed()
        self.assertEqual(self.successResultOf(answers[2]), "c stored")

    def nextTurns(self, *items: str, each: float = 0.0) -> None:
        """Have an item come in each of the reactor's next turns, which take so many seconds; in a
        turn of "" none comes."""

        def come(item: str, *later: str) -> None:
            self.clock.rightNow += each
            if item:
                self.group.add(item, 1, 30.0)
            if later:
                self.clock.callLater(0, come, *later)

        self.clock.callLater(0, come, *items)

    def test_what_comes_in_the_next_turn_shares_the_batch(self) -> None:
        self.group.add("a", 1, 30.0)
        self.nextTurns("b", "c")
        self.clock.advance(0)
        self.assertEqual(self.commits.items, [["a", "b", "c"]])

    def test_what_comes_after_turns_that_had_other_things_to_do_shares_the_batch(self) -> None:
        self.group.add("a", 1, 30.0)
        self.nextTurns("", "", "b", each=2 * QUIET)
        self.clock.advance(0)
        self.assertEqual(self.commits.items, [["a", "b"]])

    def test_after_a_turn_with_nothing_to_do_nobody_is_waited_for(self) -> None:
        self.group.add("a", 1, 30.0)
        self.nextTurns("", "", "b", each=QUIET / 2)
        self.clock.advance(0)
        self.assertEqual(self.commits.items, [["a"]])

    def test_a_batch_waits_for_company_only_so_long(self) -> None:
        for items, batch in (("b", "c", "d", "e"), ["a", "b", "c"]), (("", "", "d"), ["a"]):
            self.commits = Commits(self.clock)
            self.group = self.make()
            self.group.add("a", 1, 30.0)
            self.nextTurns(*items, each=PATIENCE / 2)
            self.clock.advance(0)
            self.assertEqual(self.commits.items, [batch])

    def test_a_batch_that_is_full_waits_for_nobody(self) -> None:
        seen: list[int] = []
        for size, cost in (2, 4), (3, 1), (2, 5):
            self.group = self.make(maxItems=3, maxCost=10)
            for item in range(size):
                self.group.add(str(item), cost, 30.0)
            self.clock.callLater(0, lambda: seen.append(len(self.commits.batches)))
            self.clock.advance(0)
        # In the next turn, where nothing more has come, only the full ones were under way already.
        self.assertEqual(seen, [0, 2, 3])

    def test_nobody_waits_for_company_beside_a_large_one(self) -> None:
        self.group.add("small", 1, 30.0)
        self.group.add("large", 2 * MIB, 30.0)
        self.nextTurns("late")
        self.clock.advance(0)
        self.assertEqual(self.commits.items, [["small"]])

    def test_a_turn_that_ends_with_nothing_left_commits_nothing(self) -> None:
        self.group.add("a", 1, 30.0).addErrback(lambda _: None).cancel()
        self.clock.advance(0)
        self.assertEqual((self.commits.items, self.released), ([], ["a"]))

    def test_closed_before_the_turn_ends_it_leaves_no_call_behind(self) -> None:
        self.group.add("a", 1, 30.0).addErrback(lambda _: None).cancel()
        self.successResultOf(self.group.close(10))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_comes_during_a_commit_shares_the_next_one(self) -> None:
        self.add("a", "b", "c", "d")
        self.assertEqual((self.commits.items, self.group.waiting), ([["a"]], 3))
        self.commits.succeed()
        self.assertEqual((self.commits.items[1:], self.group.waiting), ([["b", "c", "d"]], 0))

    def test_who_is_answered_may_bring_the_next_item_of_the_next_batch(self) -> None:
        first, _ = self.add("a", "b")
        first.addCallback(lambda _: self.group.add("c", 1, 30.0))
        self.commits.succeed()
        self.assertEqual(self.commits.items, [["a"], ["b", "c"]])

    def test_what_has_waited_long_is_under_way_before_the_answers_go_out(self) -> None:
        seen: list[int] = []
        first, _ = self.add("a", "b")
        first.addCallback(lambda _: seen.append(len(self.commits.batches)))
        self.clock.advance(PATIENCE)
        self.commits.succeed()
        self.assertEqual(seen, [2])

    def test_a_batch_holds_no_more_items_than_allowed(self) -> None:
        self.group = self.make(maxItems=2)
        self.add("a", "b", "c", "d")
        self.commits.succeed()
        self.commits.succeed()
        self.assertEqual(self.commits.items, [["a"], ["b", "c"], ["d"]])

    def test_a_batch_costs_no_more_than_allowed_but_always_holds_one(self) -> None:
        self.group = self.make(maxCost=10, large=100)
        self.add("a")
        self.add("b", "c", cost=5)
        self.add("d")
        self.add("e", cost=50)
        for _ in range(3):
            self.commits.succeed()
        self.assertEqual(self.commits.items, [["a"], ["b", "c"], ["d"], ["e"]])

    def test_each_item_gets_its_own_result(self) -> None:
        self.add("x")
        good, bad = self.add("good", "bad")
        self.commits.succeed()
        self.commits.answers[1].callback(["fine", OutOfRoom("no")])
        self.assertEqual(self.successResultOf(good), "fine")
        self.failureResultOf(bad, OutOfRoom)
        self.assertEqual(self.released, ["x", "good", "bad"])

    def test_no_results_means_that_all_succeeded(self) -> None:
        (answer,) = self.add("a")
        self.commits.answers[0].callback(None)
        self.assertIsNone(self.successResultOf(answer))

    def test_a_commit_that_fails_fails_all_and_the_group_goes_on(self) -> None:
        first = self.add("a")
        both = self.add("b", "c")
        self.commits.succeed()
        self.commits.answers[1].errback(ZeroDivisionError())
        for answer in both:
            self.failureResultOf(answer, ZeroDivisionError)
        self.add("d")
        self.assertEqual(self.commits.items[-1], ["d"])
        self.successResultOf(first[0])

    def test_a_commit_that_raises_fails_its_items(self) -> None:
        def broken(batch: Batch[str, str]) -> Deferred[list[str | Exception] | None]:
            raise ZeroDivisionError

        self.group = GroupCommit(broken, self.clock, self.released.append)
        self.failureResultOf(self.add("a")[0], ZeroDivisionError)
        self.assertEqual(self.released, ["a"])

    def test_an_item_added_by_an_answer_is_committed(self) -> None:
        self.group = GroupCommit(lambda batch: succeed(None), self.clock, self.released.append)
        (answer,) = self.add("a")
        answer.addCallback(lambda _: self.add("b")[0])
        self.assertIsNone(self.successResultOf(answer))
        self.assertEqual(self.released, ["a", "b"])

    # Lanes

    def test_large_items_share_4_MiB_and_take_turns_with_the_small_ones(self) -> None:
        self.add("s1")
        self.add("L1", "L2", "L3", "L4", cost=MIB + MIB // 4)
        self.add("L5", cost=50 * MIB)
        self.add("s2", "s3", cost=MIB // 2)
        self.add("s4", cost=MIB)
        for _ in range(5):
            self.commits.succeed()
        self.assertEqual(
            self.commits.items,
            [["s1"], ["L1", "L2", "L3"], ["s2", "s3", "s4"], ["L4"], ["L5"]],
        )

    def test_with_two_slots_a_large_item_does_not_hold_up_small_ones(self) -> None:
        self.group = self.make(slots=2)
        self.add("L1", "L2", cost=2 * MIB)
        self.add("s1", "s2")
        self.assertEqual(self.commits.items, [["L1"], ["s1"]])
        self.commits.succeed()
        self.assertEqual(self.commits.items[2:], [["s2"]])
        self.commits.succeed(0)
        self.assertEqual(self.commits.items[3:], [["L2"]])

    def test_of_more_slots_the_small_ones_have_one_and_the_large_ones_the_others(self) -> None:
        self.group = self.make(slots=3)
        self.add("s1", "s2", "s3")
        self.add("L1", "L2", "L3", cost=3 * MIB)
        self.assertEqual(self.commits.items, [["s1"], ["L1"], ["L2"]])
        self.commits.succeed(0)
        self.commits.succeed(1)
        self.assertEqual(self.commits.items[3:], [["s2", "s3"], ["L3"]])

    # Limits on what waits

    def test_too_many_waiting_items_are_refused_and_released(self) -> None:
        self.group = self.make(maxWaiting=2)
        self.add("a", "b", "c")
        self.failureResultOf(self.add("d")[0], OutOfRoom)
        self.assertEqual(self.released, ["d"])
        self.commits.succeed()
        self.assertNoResult(self.add("e")[0])

    def test_too_much_waiting_cost_is_refused(self) -> None:
        self.group = self.make(maxWaitingCost=10)
        self.add("a", "b", cost=6)
        self.failureResultOf(self.add("c", cost=5)[0], OutOfRoom)
        self.assertNoResult(self.add("d", cost=4)[0])
        self.assertEqual((self.group.waiting, self.group.waitingCost), (2, 10))

    def test_a_lane_whose_items_were_all_withdrawn_is_passed_over(self) -> None:
        self.add("s1")
        (large,) = self.add("L", cost=2 * MIB)
        self.add("s2")
        large.cancel()
        self.failureResultOf(large, CancelledError)
        self.commits.succeed()
        self.assertEqual(self.commits.items, [["s1"], ["s2"]])

    # Deadlines

    def test_items_still_waiting_at_their_deadline_are_withdrawn(self) -> None:
        self.add("a", seconds=60)
        answers = self.add("b", "c")
        self.clock.advance(29.9)
        self.assertNoResult(answers[0])
        self.clock.advance(0.1)
        for answer in answers:
            self.failureResultOf(answer, Unavailable)
        self.assertEqual((self.released, self.group.waiting), (["b", "c"], 0))
        self.commits.succeed()
        self.assertEqual(self.commits.items, [["a"]])

    def test_a_batch_not_marked_at_its_deadline_is_abandoned_and_released_later(self) -> None:
        (answer,) = self.add("a")
        self.clock.advance(30)
        self.failureResultOf(answer, Unavailable)
        self.assertEqual(self.released, [])  # the thread still reads it
        self.assertRaises(Abandoned, self.commits.batches[0].mark)
        self.commits.answers[0].errback(Abandoned())
        self.assertEqual(self.released, ["a"])

    def test_an_item_due_earlier_than_its_batch_is_taken_out_alone(self) -> None:
        self.add("x", seconds=99)
        (early,), (late,) = self.add("early", seconds=1), self.add("late", seconds=50)
        self.commits.succeed()
        self.assertEqual(self.commits.batches[1].deadline, 50)
        self.clock.advance(1)
        self.failureResultOf(early, Unavailable)
        self.assertEqual(self.commits.batches[1].mark(), ["early"])
        self.commits.succeed()
        self.assertEqual(self.successResultOf(late), "late stored")

    def test_a_batch_that_is_committing_has_some_grace_to_say_what_became_of_it(self) -> None:
        (answer,) = self.add("a")
        self.assertEqual(self.commits.batches[0].mark(), [])
        self.clock.advance(31.9)
        self.assertNoResult(answer)
        self.commits.succeed()
        self.assertEqual(self.successResultOf(answer), "a stored")

    def test_a_commit_that_never_answers_is_answered_after_the_grace(self) -> None:
        (answer,) = self.add("a")
        self.commits.batches[0].mark()
        self.clock.pump([30, 2])
        self.failureResultOf(answer, Unavailable)
        self.assertRaises(Abandoned, self.commits.batches[0].mark)  # should it try again
        self.commits.succeed()
        self.assertEqual(self.released, ["a"])

    def test_a_busy_group_has_one_timer(self) -> None:
        self.add(*"abcdefgh")
        (soon,) = self.add("soon", seconds=3)
        self.add("later", seconds=40)
        self.assertEqual([call.getTime() for call in self.clock.getDelayedCalls()], [3])
        self.clock.advance(3)
        self.failureResultOf(soon, Unavailable)
        self.assertEqual([call.getTime() for call in self.clock.getDelayedCalls()], [30])

    # Withdrawal

    def test_cancelling_takes_a_waiting_item_out(self) -> None:
        _, answer, other = self.add("a", "b", "c")
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual((self.released, self.group.waiting), (["b"], 1))
        self.commits.succeed()
        self.assertEqual(self.commits.items[1], ["c"])
        self.assertNoResult(other)

    def test_cancelling_an_item_that_is_being_written_takes_it_out_before_the_commit(self) -> None:
        self.add("x")
        answers = self.add("a", "b")
        self.commits.succeed()
        answers[0].cancel()
        self.failureResultOf(answers[0], CancelledError)
        self.assertEqual(self.commits.batches[1].mark(), ["a"])
        self.assertEqual(self.released, ["x"])
        self.commits.succeed()
        self.assertEqual(self.successResultOf(answers[1]), "b stored")
        self.assertEqual(self.released, ["x", "a", "b"])

    def test_cancelling_an_item_that_is_committing_does_not_stop_the_commit(self) -> None:
        (answer,) = self.add("a")
        self.commits.batches[0].mark()
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(self.commits.batches[0].mark(), [])
        self.commits.succeed()
        self.assertEqual(self.released, ["a"])

    def test_halves_are_marked_apart(self) -> None:
        self.add("x")
        answers = self.add("a", "b", "c")
        self.commits.succeed()
        left, right = self.commits.batches[1].halves()
        self.assertEqual((left.items, right.items), (["a"], ["b", "c"]))
        left.mark()
        self.clock.advance(30)  # `a` is committing, the others are not
        self.assertEqual(left.mark(), [])
        self.assertRaises(Abandoned, right.mark)
        self.assertNoResult(answers[0])
        self.failureResultOf(answers[1], Unavailable)
        self.failureResultOf(answers[2], Unavailable)

    # The end

    def test_closing_an_idle_group_is_done_at_once(self) -> None:
        self.successResultOf(self.group.close(10))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.failureResultOf(self.add("a")[0], Unavailable)
        self.assertEqual(self.released, ["a"])

    def test_closing_waits_until_all_is_answered(self) -> None:
        answers = self.add("a", "b")
        closed, again = self.group.close(10), self.group.close(10)
        self.commits.succeed()
        self.assertNoResult(closed)
        self.commits.succeed()
        self.successResultOf(closed)
        self.successResultOf(again)
        self.assertEqual([self.successResultOf(a) for a in answers], ["a stored", "b stored"])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_closing_waits_no_longer_than_its_limit_and_withdraws_the_rest(self) -> None:
        answers = self.add("hung", "waiting")
        closed = self.group.close(10)
        self.clock.advance(10)
        self.successResultOf(closed)
        for answer in answers:
            self.failureResultOf(answer, Unavailable)
        self.assertRaises(Abandoned, self.commits.batches[0].mark)
        self.assertEqual(self.released, ["waiting"])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.commits.succeed()
        self.assertEqual(self.released, ["waiting", "hung"])

    def test_closing_is_done_when_the_last_waiting_item_is_withdrawn(self) -> None:
        answers = self.add("a", "b")
        closed = self.group.close(10)
        self.commits.succeed()
        answers[1].cancel()
        self.failureResultOf(answers[1], CancelledError)
        self.assertNoResult(closed)  # its batch is still being written
        self.commits.answers[1].errback(Abandoned())
        self.successResultOf(closed)

    def test_without_a_release_nothing_is_asked_for(self) -> None:
        self.group = GroupCommit(lambda batch: succeed(None), self.clock)
        self.assertIsNone(self.successResultOf(self.add("a")[0]))


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.sampled_from([1, 3, 50])),
        st.tuples(st.just("mark"), st.just(0)),
        st.tuples(st.just("finish"), st.just(0)),
        st.tuples(st.just("fail"), st.just(0)),
        st.tuples(st.just("cancel"), st.integers(0, 40)),
        st.tuples(st.just("wait"), st.sampled_from([1, 4, 11])),
    ),
    max_size=60,
)


@settings(max_examples=300, deadline=None)
@given(_STEPS, st.integers(1, 3))
def test_whatever_happens_each_item_is_answered_truly_and_released_once(
    steps: list[tuple[str, int]], slots: int
) -> None:
    clock = Clock()
    commits = Commits(clock)
    released: list[str] = []
    committed: set[str] = set()
    answers: dict[str, str] = {}
    deferreds: list[Answer] = []
    marked: dict[int, set[str]] = {}
    open_: list[int] = []
    group: GroupCommit[str, str] = GroupCommit(
        commits, clock, released.append, maxItems=3, maxCost=8, large=10, slots=slots
    )

    def note(item: str) -> Callable[[str | Failure], None]:
        def noted(result: str | Failure) -> None:
            assert item not in answers
            answers[item] = type(result.value).__name__ if isinstance(result, Failure) else "stored"

        return noted

    def mark(index: int) -> None:
        batch = commits.batches[index]
        try:
            marked[index] = set(batch.items) - set(batch.mark())
            assert not marked[index] & set(answers)  # who has an answer is not committed
        except Abandoned:
            marked[index] = set()

    def end(index: int, isGood: bool) -> None:
        open_.remove(index)
        if not isGood:
            commits.answers[index].errback(Unavailable("down"))
            clock.advance(0)
            return
        if index not in marked:
            mark(index)
        committed.update(marked[index])
        commits.succeed(index)

    def refresh() -> None:
        known = set(open_) | ended
        open_.extend(i for i in range(len(commits.batches)) if i not in known)

    ended: set[int] = set()
    for action, value in [*steps, ("wait", 0), *[("finish", 0)] * 80]:
        refresh()
        if action == "add":
            item = f"item{len(deferreds)}"
            deferred = group.add(item, value, clock.seconds() + 10)
            deferred.addBoth(note(item))
            deferreds.append(deferred)
            if value != 3:  # which shares its turn with the next
                clock.advance(0)
        elif action == "mark" and open_ and open_[0] not in marked:
            mark(open_[0])
        elif action in ("finish", "fail") and open_:
            index = open_[0]
            ended.add(index)
            end(index, action == "finish")
        elif action == "cancel" and value < len(deferreds):
            deferreds[value].cancel()
        elif action == "wait":
            clock.advance(value)
    assert sorted(released) == sorted(f"item{i}" for i in range(len(deferreds)))
    assert set(answers) == set(released)
    assert {item for item, answer in answers.items() if answer == "stored"} <= committed
    # Only who was committing already may be stored without being told so.
    for item in committed:
        assert answers[item] in ("stored", "CancelledError", "Unavailable")
    assert (group.waiting, group.waitingCost) == (0, 0)
