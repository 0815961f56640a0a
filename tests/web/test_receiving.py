"""What sessions do, in numbers, of one process and of several."""

from __future__ import annotations

from typing import Any

from zope.interface.verify import verifyObject

from mailsrv.interfaces import ISessionObserver
from mailsrv.smtp.reply import reply
from mailsrv.testing import makeMessage
from mailsrv.web.receiving import BUCKETS, CountObserver, Counts, Tally

SESSION: Any = None
NO_USER = reply(550, "5.1.1", "No such user here")


def counts(**numbers: Any) -> Counts:
    return Counts(**numbers)


def test_everything_is_counted() -> None:
    observer = CountObserver()
    verifyObject(ISessionObserver, observer)
    for _ in range(3):
        observer.sessionOpened(SESSION)
    observer.sessionClosed(SESSION, "gone")
    for _ in range(2):
        observer.commandRefused(SESSION, "RCPT", b"", NO_USER)
    observer.commandRefused(SESSION, "X", b"", reply(500, "5.5.2", "what"))
    for octets, seconds in ((b"one", 0.001), (b"three", 0.0011), (b"", 99.0)):
        observer.messageStored(SESSION, makeMessage(octets), seconds)
    seen = observer.counts
    assert (seen.opened, seen.closed, seen.octets) == (3, 1, 8)
    assert seen.refused == {"550": 2, "500": 1}
    assert seen.stored == [1, 1, *[0] * (len(BUCKETS) - 2), 1]
    assert abs(seen.seconds - 99.0021) < 1e-9


def test_counts_go_over_the_pipe_whole_and_in_one_piece() -> None:
    most = 2**53
    full = counts(
        opened=most, closed=most, stored=[most] * (len(BUCKETS) + 1), octets=most, seconds=1e15 / 3,
        refused={str(code): most for code in range(421, 459)}, memory=most, disk=most,
        memoryLimit=most, diskLimit=most,
    )  # fmt: skip
    line = full.dump()
    assert Counts.load(line) == full
    assert "\n" not in line
    assert len(line) < 4_000


def test_several_processes_are_one_sum() -> None:
    tally = Tally()
    assert tally.total() == Counts()
    tally.heard(1, counts(opened=5, closed=2, refused={"550": 1}, memory=10, memoryLimit=100))
    tally.heard(2, counts(opened=1, refused={"550": 2, "421": 1}, memory=5, memoryLimit=100))
    tally.heard(2, counts(opened=2, refused={"550": 3, "421": 1}, memory=5, memoryLimit=100))
    total = tally.total()
    assert (total.opened, total.closed, total.memory, total.memoryLimit) == (7, 2, 15, 200)
    assert total.refused == {"550": 4, "421": 1}


def test_what_a_process_has_counted_stays_when_it_has_ended_and_what_it_held_does_not() -> None:
    tally = Tally()
    tally.heard(1, counts(opened=5, closed=2, octets=7, memory=10, memoryLimit=100))
    tally.ended(1)
    tally.ended(1)
    tally.ended(2)  # one that has never said anything
    assert tally.total() == counts(opened=5, closed=5, octets=7)
    tally.heard(1, counts(opened=1, octets=1, memoryLimit=100))
    assert tally.total() == counts(opened=6, closed=5, octets=8, memoryLimit=100)
