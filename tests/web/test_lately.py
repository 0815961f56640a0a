"""An answer that is asked for no more often than makes sense."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from mailsrv.web.lately import Lately


class World:
    """Who is asked, and who asks."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.asked: list[Deferred[str]] = []
        self.lately = Lately(self._ask, self.clock, age=5.0, patience=3.0)

    def _ask(self) -> Deferred[str]:
        self.asked.append(Deferred())
        return self.asked[-1]

    def get(self) -> list[str | None]:
        heard: list[str | None] = []
        self.lately.get().addCallback(heard.append)
        return heard


def test_all_who_wait_hear_the_one_answer() -> None:
    world = World()
    heard = [world.get(), world.get()]
    assert len(world.asked) == 1
    assert heard == [[], []]
    world.asked[0].callback("yes")
    assert heard == [["yes"], ["yes"]]


def test_an_answer_holds_for_a_while() -> None:
    world = World()
    world.get()
    world.asked[0].callback("yes")
    world.clock.advance(4.9)
    assert world.get() == ["yes"]
    assert len(world.asked) == 1
    world.clock.advance(0.1)
    world.get()
    assert len(world.asked) == 2


def test_that_it_failed_is_an_answer_too() -> None:
    world = World()
    first = world.get()
    world.asked[0].errback(OSError("down"))
    assert first == [None]
    assert world.get() == [None]
    assert len(world.asked) == 1


def test_who_has_waited_long_enough_goes_without_and_it_is_not_asked_twice() -> None:
    world = World()
    first = world.get()
    world.clock.advance(3.0)
    assert first == [None]
    second = world.get()
    assert len(world.asked) == 1
    world.asked[0].callback("late")
    assert (first, second) == ([None], ["late"])
    assert world.get() == ["late"]
