"""What this worker has claimed in the queue, and until when it is its own."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime, timedelta

from twisted.internet.interfaces import IReactorTime

from mailsrv.interfaces import IQueue, QueueItem
from mailsrv.relay.counters import Counters
from mailsrv.relay.job import Job


class Claims:
    """Items claimed for `lease` seconds, and for longer as long as `renew` is called.

    Counts on the monotonic clock too: a process that was stopped for a while knows that what it
    held may be somebody else's by now. `now`: aware, UTC.
    """

    def __init__(
        self,
        queue: IQueue,
        clock: IReactorTime,
        now: Callable[[], datetime],
        lease: float,
        counters: Counters,
    ) -> None:
        self._queue = queue
        self._clock = clock
        self._now = now
        self._lease = lease
        self._counters = counters
        self._held: dict[int, tuple[QueueItem, float]] = {}

    def __len__(self) -> int:
        return len(self._held)

    async def claim(self, limit: int, excluded: Collection[str]) -> list[QueueItem]:
        """At most `limit` items that are due, none of the domains `excluded`."""
        seconds = self._clock.seconds() + self._lease
        items = await self._queue.claim(limit, self._now(), self._until(), excluded)
        for item in items:
            self._held[item.id] = (item, seconds)
        self._counters.held = len(self._held)
        return items

    async def renew(self) -> None:
        """Keep all that is held for one more lease."""
        items = [item for item, _ in self._held.values()]
        if not items:
            return
        seconds = self._clock.seconds() + self._lease
        await self._queue.renew(items, self._until())
        for item in items:
            if item.id in self._held:
                self._held[item.id] = (item, seconds)

    def isOurs(self, job: Job) -> bool:
        """Whether all of the job is still held."""
        now = self._clock.seconds()
        return all(self._held.get(item.id, (item, now))[1] > now for item in job.items)

    def forget(self, items: Iterable[QueueItem]) -> None:
        """These are settled."""
        for item in items:
            self._held.pop(item.id, None)
        self._counters.held = len(self._held)

    async def release(self, items: Iterable[QueueItem] | None = None) -> None:
        """Give these back, or all; where that fails, their claims lapse."""
        given = list(items if items is not None else (item for item, _ in self._held.values()))
        self.forget(given)
        if given:
            await self._queue.release(given)

    def _until(self) -> datetime:
        return self._now() + timedelta(seconds=self._lease)
