"""What several wires say in one turn of the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.server.wire import Outbox, Wire


class Recorded:
    """A wire that notes when it is told to send."""

    def __init__(
        self, name: str, sent: list[str], then: Callable[[], object] = lambda: None
    ) -> None:
        self._name = name
        self._sent = sent
        self._then = then
        self.transport = self

    def abortConnection(self) -> None:
        self._sent.append(f"{self._name} given up")

    def sendNow(self) -> None:
        self._sent.append(self._name)
        self._then()


class OutboxTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[str] = []
        self.outbox = Outbox(lambda call: cast(None, self.clock.callLater(0, call)))

    def wire(self, name: str, **then: Any) -> Wire:
        return cast(Wire, Recorded(name, self.sent, **then))

    def test_all_that_is_said_in_a_turn_goes_out_at_its_end_each_wire_once(self) -> None:
        first, second = self.wire("first"), self.wire("second")
        for wire in (first, second, first):
            self.outbox.add(wire)
        self.assertEqual(self.sent, [])
        self.clock.advance(0)
        self.assertEqual(self.sent, ["first", "second"])

    def test_nothing_is_sent_in_a_turn_without_a_word(self) -> None:
        self.outbox.add(self.wire("only"))
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1)
        self.assertEqual(self.sent, ["only"])

    def test_what_is_said_while_it_goes_out_goes_out_next(self) -> None:
        late = self.wire("late")
        self.outbox.add(self.wire("first", then=lambda: self.outbox.add(late)))
        self.outbox.add(self.wire("second"))
        self.clock.advance(0)
        self.assertEqual(self.sent, ["first", "second", "late"])

    def test_what_one_wire_cannot_send_keeps_no_other_waiting(self) -> None:
        self.outbox.add(self.wire("broken", then=lambda: 1 / 0))
        self.outbox.add(self.wire("second"))
        self.clock.advance(0)
        self.assertEqual(self.sent, ["broken", "broken given up", "second"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
