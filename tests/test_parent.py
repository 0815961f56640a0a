"""What a worker tells the process that started it, and how that hears it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from mailsrv.parent import COUNTS, GATHER, PIPE, REPORT, Parent, inheritedSockets
from mailsrv.web.receiving import Counts
from mailsrv.workers import Workers, _Child


class Pipe:
    """A Parent at one end of a pipe, the test at the other."""

    def __init__(self) -> None:
        self.end, pipe = os.pipe()
        os.set_blocking(self.end, False)
        self.pipe = pipe
        self.clock = Clock()
        self.parent = Parent(self.clock, [], pipe)

    def said(self) -> list[bytes]:
        try:
            return os.read(self.end, 65_536).splitlines()
        except BlockingIOError:
            return []


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    os.close(made.pipe)
    os.close(made.end)


def test_a_word_that_is_said_often_is_said_once(pipe: Pipe) -> None:
    for _ in range(100):
        pipe.parent.poke("queue")
        pipe.parent.poke("events")
    pipe.clock.advance(GATHER)
    assert pipe.said() == [b"queue", b"events"]
    pipe.clock.advance(60)
    assert pipe.said() == []
    pipe.parent.poke("queue")
    pipe.clock.advance(GATHER)
    assert pipe.said() == [b"queue"]


def test_a_parent_that_does_not_read_holds_nobody_up(pipe: Pipe) -> None:
    line = "x" * 4_095
    for _ in range(1_000):
        pipe.parent.say(line)
    assert set(pipe.said()) == {line.encode()}  # each whole or not at all


def test_a_parent_that_has_gone_is_no_error() -> None:
    gone = Pipe()
    os.close(gone.end)
    gone.parent.say("queue")
    os.close(gone.pipe)


def test_counts_are_said_where_they_are_news_and_at_the_end(pipe: Pipe) -> None:
    counts = Counts()
    pipe.parent.report(lambda: counts)
    assert [Counts.load(line[len(COUNTS) :].decode()) for line in pipe.said()] == [Counts()]
    pipe.clock.advance(REPORT)
    assert pipe.said() == []
    counts.opened = 1
    pipe.clock.advance(REPORT)
    [line] = pipe.said()
    assert line.startswith(COUNTS.encode())
    counts.opened = 2
    pipe.parent.stop()
    assert Counts.load(pipe.said()[0][len(COUNTS) :].decode()) == counts
    assert pipe.clock.getDelayedCalls() == []


def test_who_reports_nothing_has_nothing_left_to_say(pipe: Pipe) -> None:
    pipe.parent.stop()
    assert pipe.said() == []


def test_counts_of_workers_are_added_up_by_the_parent() -> None:
    reactor: Any = Clock()
    workers = Workers(reactor, 2, {}, {})
    children = [_Child(workers, number, 0.0, 1.0) for number in (1, 2)]
    for child in children:
        line = f"{COUNTS}{Counts(opened=2, closed=1).dump()}\n"
        child.childDataReceived(PIPE, line.encode())
    assert (workers.tally.total().opened, workers.tally.total().closed) == (4, 2)
    workers.ended(children[0], "killed")
    assert (workers.tally.total().opened, workers.tally.total().closed) == (4, 3)


def test_who_is_a_child_knows_by_its_environment() -> None:
    assert inheritedSockets({}) is None
    assert inheritedSockets({"SMTPSTORE_INHERITED_SOCKETS": "4,5"}) == [4, 5]


def test_the_parent_hears_lines_wherever_they_are_cut() -> None:
    heard: list[str] = []
    reactor: Any = Clock()
    workers = Workers(reactor, 2, {}, {})
    workers._hear = heard.append
    child = _Child(workers, 1, 0.0, 1.0)
    for octets in (b"que", b"ue\nevents\nq", b"", b"ueue\n", b"half"):
        child.childDataReceived(PIPE, octets)
    assert heard == ["queue", "events", "queue"]
