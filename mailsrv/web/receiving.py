"""What sessions do, in numbers."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields, replace

from zope.interface import implementer

from mailsrv.interfaces import ISession, ISessionObserver
from mailsrv.smtp.message import Message
from mailsrv.smtp.reply import Reply

# Seconds from the end of the data to the COMMIT, the upper limit of each bucket; the last has none.
# Close enough where a database is healthy that a 99th percentile means something.
BUCKETS = (
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
    10.0, 30.0,
)  # fmt: skip


@dataclass(slots=True)
class Counts:
    """Of one process, since its start: sessions `opened` and `closed`; messages `stored`, by
    bucket; their `octets`, and `seconds` to their COMMIT; commands `refused`, by reply code.

    Now: octets of `memory` and `disk` that spools hold, and the most they may.
    """

    opened: int = 0
    closed: int = 0
    stored: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    octets: int = 0
    seconds: float = 0.0
    refused: dict[str, int] = field(default_factory=dict)
    memory: int = 0
    disk: int = 0
    memoryLimit: int = 0
    diskLimit: int = 0

    def dump(self) -> str:
        """On one line, of less than 4 KiB."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def load(cls, text: str) -> Counts:
        """Out of such a line."""
        return cls(**json.loads(text))


@implementer(ISessionObserver)
class CountObserver:
    """Counts, for 0.4 µs a message, and 0.3 us a refusal.

    Plain numbers: the counters of prometheus-client, with a lock each, would cost four times that,
    those it shares among processes ten times.
    """

    def __init__(self) -> None:
        self.counts = Counts()

    def sessionOpened(self, session: ISession) -> None:
        self.counts.opened += 1

    def sessionClosed(self, session: ISession, reason: str) -> None:
        self.counts.closed += 1

    def commandRefused(self, session: ISession, verb: str, argument: bytes, reply: Reply) -> None:
        refused, code = self.counts.refused, str(reply.code)
        refused[code] = refused.get(code, 0) + 1

    def messageStored(self, session: ISession, message: Message, seconds: float) -> None:
        counts = self.counts
        counts.stored[bisect_left(BUCKETS, seconds)] += 1
        counts.octets += message.content.size
        counts.seconds += seconds


class Tally:
    """The counts of several processes, those that have ended among them: no sum ever falls."""

    def __init__(self) -> None:
        self._ended = Counts()
        self._running: dict[int, Counts] = {}

    def heard(self, number: int, counts: Counts) -> None:
        """A process, known by its number, has counted so far."""
        self._running[number] = counts

    def ended(self, number: int) -> None:
        """It has gone, its sessions with it, and another may have its number."""
        counts = self._running.pop(number, None)
        if counts is not None:
            gone = replace(counts, closed=counts.opened, memory=0, disk=0)
            self._ended = _sum([self._ended, replace(gone, memoryLimit=0, diskLimit=0)])

    def total(self) -> Counts:
        """All together."""
        return _sum([self._ended, *self._running.values()])


def _sum(each: Iterable[Counts]) -> Counts:
    each = list(each)
    refused: Counter[str] = Counter()
    for counts in each:
        refused.update(counts.refused)
    numbers = {
        name: sum(getattr(counts, name) for counts in each)
        for name in (field.name for field in fields(Counts))
        if name not in ("stored", "refused")
    }
    stored = [sum(bucket) for bucket in zip(*(counts.stored for counts in each), strict=True)]
    return Counts(stored=stored, refused=dict(refused), **numbers)
