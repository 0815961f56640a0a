"""When mail is tried again, and for how long (RFC 5321 §4.5.4.1)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

_MINUTES = (1, 5, 15, 30, 60, 120, 240)


@dataclass(frozen=True, slots=True)
class Schedule:
    """`intervals`: after the first, second … attempt; the last one again and again. `lifetime`:
    after that it is given up. `delayReport`: after that the sender is told, once. `jitter`: the
    part of an interval that is left to chance, so that what failed together does not come back
    together for ever; `chance` gives it, from 0 to 1.
    """

    intervals: tuple[timedelta, ...] = tuple(timedelta(minutes=each) for each in _MINUTES)
    lifetime: timedelta = timedelta(days=5)
    delayReport: timedelta = timedelta(hours=4)
    jitter: float = 0.2

    def next(
        self, attempts: int, createdAt: datetime, now: datetime, chance: float = 0.5
    ) -> datetime | None:
        """The time of the next attempt after so many that have failed; None: no more.

        `chance`: from 0 to 1, where 0.5 is the interval itself. The last attempt is at the end of
        the lifetime, whatever the interval.
        """
        expiry = createdAt + self.lifetime
        if now >= expiry:
            return None
        interval = self.intervals[min(attempts, len(self.intervals)) - 1]
        return min(expiry, now + interval * (1 + self.jitter * (chance - 0.5)))

    def isLate(self, createdAt: datetime, now: datetime) -> bool:
        """Whether the sender should know by now."""
        return now - createdAt >= self.delayReport
