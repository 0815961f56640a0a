"""A next hop: what waits for it, and the connections to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from mailsrv.relay.job import Job


class Hop:
    """Jobs for one next hop, oldest first, and how many connections serve them.

    `connections`: all of them; `ready`: those of them that are beyond their greeting; `most`: as
    many as it has been found to take.
    """

    def __init__(self, name: str, clock: IReactorTime, most: int) -> None:
        self.name = name
        self.most = most
        self.waiting: deque[Job] = deque()
        self.connections = 0
        self.ready = 0
        self._clock = clock
        self._idle: deque[Deferred[None]] = deque()

    @property
    def isEmpty(self) -> bool:
        """Whether nothing waits and nobody is connected."""
        return not self.waiting and not self.connections

    @property
    def wantsConnection(self) -> bool:
        """Whether there is a job that none of the connections is free for."""
        begun = self.connections - self.ready
        return self.connections < self.most and len(self.waiting) > begun + len(self._idle)

    def add(self, job: Job) -> None:
        """One more job; who is idle wakes."""
        self.waiting.append(job)
        if self._idle:
            self._idle.popleft().callback(None)

    def drain(self) -> Iterator[Job]:
        """Take all that waits."""
        while self.waiting:
            yield self.waiting.popleft()

    async def take(self, patience: float) -> Job | None:
        """The next job; None where there is none for so many seconds, or `wake` was called."""
        if not self.waiting and patience:
            idle: Deferred[None] = Deferred()
            self._idle.append(idle)
            idle.addTimeout(patience, self._clock, onTimeoutCancel=lambda *_: None)
            try:
                await idle
            finally:
                if idle in self._idle:
                    self._idle.remove(idle)
        return self.waiting.popleft() if self.waiting else None

    def wake(self) -> None:
        """Let nobody wait for more."""
        while self._idle:
            self._idle.popleft().callback(None)
