"""An answer that is asked for no more often than makes sense."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

T = TypeVar("T")


class Lately(Generic[T]):
    """What `ask` has said within the last `age` seconds; asked by one at a time.

    Who wants to know waits `patience` seconds at most, and hears None where nothing was said or
    asking has failed.
    """

    def __init__(
        self,
        ask: Callable[[], Deferred[T]],
        clock: IReactorTime,
        age: float = 5.0,
        patience: float = 3.0,
    ) -> None:
        self._ask = ask
        self._clock = clock
        self._age = age
        self._patience = patience
        self._answer: T | None = None
        self._until: float | None = None
        self._isAsking = False
        self._waiting: list[Deferred[T | None]] = []

    def get(self) -> Deferred[T | None]:
        """The answer."""
        if self._until is not None and self._clock.seconds() < self._until:
            return succeed(self._answer)
        waiting: Deferred[T | None] = Deferred()
        self._waiting.append(waiting)
        if not self._isAsking:
            self._isAsking = True
            self._ask().addBoth(self._heard)
        return waiting.addTimeout(self._patience, self._clock, onTimeoutCancel=lambda *_: None)

    def _heard(self, answer: T | Failure) -> None:
        self._isAsking = False
        self._answer = None if isinstance(answer, Failure) else answer
        self._until = self._clock.seconds() + self._age
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(self._answer)
