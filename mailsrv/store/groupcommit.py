"""Group commit: what comes while a commit is under way goes into the next one.

Knows neither SQL nor SMTP. Who comes alone waits for nobody: a free slot commits what waits as soon
as the reactor has had a turn in which it had nothing to do. So an idle server adds nothing, and a
loaded one batches as much as it is busy, or the database slow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from enum import Enum, auto
from threading import Lock
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from mailsrv.smtp.errors import OutOfRoom, Unavailable

Item = TypeVar("Item")
Result = TypeVar("Result")

MIB = 1 << 20
PATIENCE = 0.01  # seconds that the first of a batch waits for company, at the most
QUIET = 50e-6  # seconds; a turn in which the reactor has nothing to do takes a tenth of that


class Abandoned(Exception):
    """Nothing of the batch is wanted any more: roll it back."""


class State(Enum):
    """Where an item is; it leaves COMMITTING and WITHDRAWN only by being done with."""

    WAITING = auto()
    WRITING = auto()  # in a batch, and may yet be withdrawn
    COMMITTING = auto()  # there is no way back
    WITHDRAWN = auto()  # must not be committed; its Deferred has fired
    GIVEN_UP = auto()  # answered as failed while its commit was under way, which may yet succeed


_OVER = (State.WITHDRAWN, State.GIVEN_UP)


class Entry(Generic[Item, Result]):
    """An item, when it is due, and who waits for it."""

    __slots__ = ("cost", "deadline", "deferred", "item", "since", "state")

    def __init__(self, item: Item, cost: int, deadline: float, since: float) -> None:
        self.item = item
        self.cost = cost
        self.deadline = deadline
        self.since = since
        self.state = State.WAITING
        self.deferred: Deferred[Result]


class Batch(Generic[Item, Result]):
    """What is committed together. Only `mark` is called in another thread."""

    def __init__(self, entries: list[Entry[Item, Result]], lock: Lock) -> None:
        self.entries = entries
        self._lock = lock

    @property
    def items(self) -> list[Item]:
        """All of them, withdrawn or not."""
        return [entry.item for entry in self.entries]

    @property
    def cost(self) -> int:
        """What all of them cost."""
        return sum(entry.cost for entry in self.entries)

    @property
    def deadline(self) -> float:
        """When the last item stops waiting, by the clock of the GroupCommit."""
        return max(entry.deadline for entry in self.entries)

    def mark(self) -> list[Item]:
        """Say, right before COMMIT, that there is no way back.

        Returns the items withdrawn by then, which must be taken out; raises Abandoned where
        that is all of them.
        """
        with self._lock:
            withdrawn = [e.item for e in self.entries if e.state in _OVER]
            if len(withdrawn) == len(self.entries):
                raise Abandoned
            for entry in self.entries:
                if entry.state is State.WRITING:
                    entry.state = State.COMMITTING
        return withdrawn

    @property
    def givenUp(self) -> list[Item]:
        """The items that nobody waits for any more, and that may be committed nevertheless."""
        return [entry.item for entry in self.entries if entry.state is State.GIVEN_UP]

    def halves(self) -> tuple[Batch[Item, Result], Batch[Item, Result]]:
        """Two batches in place of this one, to be committed apart."""
        middle = len(self.entries) // 2
        return (
            Batch(self.entries[:middle], self._lock),
            Batch(self.entries[middle:], self._lock),
        )


class Lane(Generic[Item, Result]):
    """Items that wait for the same kind of batch, and the batches of them under way."""

    def __init__(self, maxItems: int, maxCost: int) -> None:
        self.waiting: deque[Entry[Item, Result]] = deque()
        self.running: list[list[Entry[Item, Result]]] = []
        self._maxItems = maxItems
        self._maxCost = maxCost

    def isFull(self, cost: int) -> bool:
        """Whether more than waits already, at `cost`, would not go into the next batch."""
        return len(self.waiting) >= self._maxItems or cost >= self._maxCost

    def take(self) -> list[Entry[Item, Result]]:
        """The next batch's entries; empty where nothing waits."""
        taken: list[Entry[Item, Result]] = []
        cost = 0
        while self.waiting and len(taken) < self._maxItems:
            entry = self.waiting[0]
            if entry.state is State.WAITING:
                cost += entry.cost
                if taken and cost > self._maxCost:
                    break
                entry.state = State.WRITING
                taken.append(entry)
            self.waiting.popleft()
        return taken

    def entries(self) -> Iterator[Entry[Item, Result]]:
        """Everything that waits or is under way."""
        yield from self.waiting
        for batch in self.running:
            yield from batch


class GroupCommit(Generic[Item, Result]):
    """Gathers items into batches and has them committed, `slots` batches at a time.

    `commit(batch)` returns a Deferred of one result an item, in order, of which those that are
    exceptions fail their items; or None: all succeeded with None; or it fails: so do they all.
    It calls `batch.mark()` right before it commits. `release(item)` is called once for each
    item given to `add`, when nobody reads it any more; it must not raise.

    An item is withdrawn when its Deferred is cancelled, and at its deadline, where it fails with
    Unavailable. A batch that is committing by then has `grace` seconds more to say what became of
    it. Items that cost more than `large` have batches of their own, of twice `maxCost`, and take
    turns with the others; where there are several slots, one is for the small items, whose
    batches would only get smaller by more of them, and the others are for the large ones.
    """

    def __init__(
        self,
        commit: Callable[[Batch[Item, Result]], Deferred[list[Result | Exception] | None]],
        clock: IReactorTime,
        release: Callable[[Item], None] = lambda _: None,
        maxItems: int = 256,
        maxCost: int = 2 * MIB,
        large: int = MIB,
        slots: int = 1,
        grace: float = 2.0,
        maxWaiting: int = 10_000,
        maxWaitingCost: int = 8192 * MIB,
    ) -> None:
        self._commit = commit
        self._clock = clock
        self._release = release
        self._large = large
        self._slots = slots
        self._grace = grace
        self._maxWaiting = maxWaiting
        self._maxWaitingCost = maxWaitingCost
        self._lock = Lock()
        self._smallLane: Lane[Item, Result] = Lane(maxItems, maxCost)
        self._largeLane: Lane[Item, Result] = Lane(maxItems, 2 * maxCost)
        self._turns = deque([self._smallLane, self._largeLane])  # whose turn it is, first
        self._running = 0
        self._due: IDelayedCall | None = None
        self._timer: IDelayedCall | None = None
        self._wakesAt = 0.0
        self._drained: Deferred[None] | None = None
        self.waiting = 0
        self.waitingCost = 0

    def add(self, item: Item, cost: int, deadline: float) -> Deferred[Result]:
        """Have `item` committed by `deadline`, by the clock; its result fires after the commit.

        Fails with Unavailable when it was not committed in time or this is closed, OutOfRoom
        when too much waits already, or as `commit` says.
        """
        if self._drained is not None:
            return self._refuse(item, Unavailable("the store is closing"))
        if self.waiting >= self._maxWaiting or self.waitingCost + cost > self._maxWaitingCost:
            return self._refuse(item, OutOfRoom("too many messages wait for the database"))
        entry: Entry[Item, Result] = Entry(item, cost, deadline, self._clock.seconds())
        entry.deferred = Deferred(lambda _: self._cancelled(entry))
        self.waiting += 1
        self.waitingCost += cost
        lane = self._largeLane if cost > self._large else self._smallLane
        lane.waiting.append(entry)
        self._wakeAt(deadline)
        if self._due is None and self._hasRoom(lane):
            # Not at once: the first of a turn would be alone in its batch, and all the others of
            # it would wait for its COMMIT. A seventh more messages a second.
            self._due = self._clock.callLater(0, self._turnEnds, 0, entry.since)
        return entry.deferred

    def _turnEnds(self, before: int, began: float) -> None:
        """Commit what waits, unless company may come: more waits than `before` this turn, or there
        was something to do since it `began`, which may lead to a message.

        A batch costs about 0.5 ms, whatever it holds, and while its thread works, each call of the
        system hands the interpreter to and fro. Waiting while more come is worth a fifth more
        messages a second; waiting while there is anything to do another fifth with 20 clients, a
        tenth with 100, and nothing where they keep their connections open.
        """
        now = self._clock.seconds()
        waiting = len(self._smallLane.waiting)
        if (waiting > before or now - began > QUIET) and self._mayGrow(now):
            self._due = self._clock.callLater(0, self._turnEnds, waiting, now)
            return
        self._due = None
        self._start()

    def _mayGrow(self, now: float) -> bool:
        """Whether what waits is worth waiting for company, if some is to be expected."""
        lane = self._smallLane
        if not lane.waiting or self._largeLane.waiting or lane.isFull(self.waitingCost):
            return False
        return now - lane.waiting[0].since < PATIENCE

    def _refuse(self, item: Item, error: Exception) -> Deferred[Result]:
        self._release(item)
        return fail(error)

    def close(self, limit: float) -> Deferred[None]:
        """Take nothing more; fires when all there was has its answer, within `limit` seconds:
        what is not committed by then is withdrawn."""
        if self._drained is None:
            self._drained = Deferred()
            self._drained.addTimeout(limit, self._clock, onTimeoutCancel=lambda *_: None)
            self._drained.addBoth(self._closed)
            self._checkDrained()
        waiter: Deferred[None] = Deferred()
        self._drained.chainDeferred(waiter)
        return waiter

    def _closed(self, result: object) -> None:
        self._expire(everything=True)
        for call in (self._timer, self._due):
            if call is not None:
                call.cancel()
        self._timer = self._due = None

    def _checkDrained(self) -> None:
        isBusy = self.waiting or self._running
        if self._drained is not None and not self._drained.called and not isBusy:
            self._drained.callback(None)

    # Batches

    def _start(self) -> None:
        while (lane := self._nextLane()) is not None:
            entries = lane.take()
            if not entries:
                continue
            self.waiting -= len(entries)
            self.waitingCost -= sum(entry.cost for entry in entries)
            lane.running.append(entries)
            self._running += 1
            done = maybeDeferred(self._commit, Batch(entries, self._lock))
            done.addBoth(self._finished, lane, entries)

    def _nextLane(self) -> Lane[Item, Result] | None:
        for lane in self._turns:
            if lane.waiting and self._hasRoom(lane):
                self._turns.remove(lane)
                self._turns.append(lane)
                return lane
        return None

    def _hasRoom(self, lane: Lane[Item, Result]) -> bool:
        """Whether one more batch of `lane` may be under way."""
        most = 1 if lane is self._smallLane else max(1, self._slots - 1)
        return self._running < self._slots and len(lane.running) < most

    def _finished(
        self,
        results: list[Result | Exception] | Failure | None,
        lane: Lane[Item, Result],
        entries: list[Entry[Item, Result]],
    ) -> None:
        lane.running.remove(entries)
        self._running -= 1
        now = self._clock.seconds()
        if not self._mayGrow(now):
            self._start()  # before the answers, so that the database works while they go out
        elif self._due is None:
            self._due = self._clock.callLater(0, self._turnEnds, 0, now)
        if not isinstance(results, list):
            results = [results] * len(entries)  # type: ignore[list-item]
        for entry, result in zip(entries, results, strict=True):
            self._release(entry.item)
            if entry.deferred.called:
                continue  # withdrawn, or cancelled too late
            if isinstance(result, (Exception, Failure)):
                entry.deferred.errback(result)
            else:
                entry.deferred.callback(result)
        self._checkDrained()

    # Withdrawal

    def _cancelled(self, entry: Entry[Item, Result]) -> None:
        self._withdraw(entry)

    def _withdraw(self, entry: Entry[Item, Result], isFinal: bool = False) -> bool:
        """Whether `entry` was taken back; if `isFinal`, even one that is committing."""
        with self._lock:
            before = entry.state
            if before in _OVER or (before is State.COMMITTING and not isFinal):
                return False
            isLate = before is State.COMMITTING
            entry.state = State.GIVEN_UP if isLate else State.WITHDRAWN
        if before is State.WAITING:
            self.waiting -= 1
            self.waitingCost -= entry.cost
            self._release(entry.item)
            self._checkDrained()
        return True

    def _wakeAt(self, when: float) -> None:
        if self._timer is None or when < self._wakesAt:
            if self._timer is not None:
                self._timer.cancel()
            self._wakesAt = when
            self._timer = self._clock.callLater(max(0.0, when - self._clock.seconds()), self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._expire()

    def _limit(self, entry: Entry[Item, Result]) -> float:
        isCommitting = entry.state is State.COMMITTING
        return entry.deadline + self._grace if isCommitting else entry.deadline

    def _expire(self, everything: bool = False) -> None:
        """Withdraw what is due, and wake again when the next is."""
        now = self._clock.seconds()
        entries = [entry for lane in self._turns for entry in lane.entries()]
        for entry in entries:
            isDue = everything or self._limit(entry) <= now
            if isDue and self._withdraw(entry, isFinal=True) and not entry.deferred.called:
                entry.deferred.errback(Unavailable("the database has not answered in time"))
        for lane in self._turns:
            lane.waiting = deque(e for e in lane.waiting if e.state is State.WAITING)
        limits = [self._limit(e) for e in entries if e.state not in _OVER]
        if limits:
            self._wakeAt(min(limits))
