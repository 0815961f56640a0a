"""What several wires say in one turn of the reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.task import Clock
from twisted.internet.tcp import Connection
from twisted.trial.unittest import SynchronousTestCase

import smtpconversation
from mailsrv.server.wire import Turn, Wire


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


class TurnTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.sent: list[str] = []
        self.turn = Turn(lambda call: cast(None, self.clock.callLater(0, call)))

    def wire(self, name: str, **then: Any) -> Wire:
        return cast(Wire, Recorded(name, self.sent, **then))

    def test_all_that_is_said_in_a_turn_goes_out_at_its_end_each_wire_once(self) -> None:
        first, second = self.wire("first"), self.wire("second")
        for wire in (first, second, first):
            self.turn.add(wire)
        self.assertEqual(self.sent, [])
        self.clock.advance(0)
        self.assertEqual(self.sent, ["first", "second"])

    def test_nothing_is_sent_in_a_turn_without_a_word(self) -> None:
        self.turn.add(self.wire("only"))
        self.clock.advance(0)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.clock.advance(1)
        self.assertEqual(self.sent, ["only"])

    def test_what_is_said_while_it_goes_out_goes_out_next(self) -> None:
        late = self.wire("late")
        self.turn.add(self.wire("first", then=lambda: self.turn.add(late)))
        self.turn.add(self.wire("second"))
        self.clock.advance(0)
        self.assertEqual(self.sent, ["first", "second", "late"])

    def test_what_one_wire_cannot_send_keeps_no_other_waiting(self) -> None:
        self.turn.add(self.wire("broken", then=lambda: 1 / 0))
        self.turn.add(self.wire("second"))
        self.clock.advance(0)
        self.assertEqual(self.sent, ["broken", "broken given up", "second"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class Socket:
    """One that takes `room` octets, then none: as if its client did not read."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.taken = b""

    def send(self, octets: bytes) -> int:
        if not self.room:
            raise BlockingIOError
        octets = octets[: self.room]
        self.room -= len(octets)
        self.taken += octets
        return len(octets)


class SocketWire(smtpconversation.Wire, Connection):
    """A transport over a bare socket."""

    def __init__(self) -> None:
        smtpconversation.Wire.__init__(self)
        self.socket: Any = Socket()


class SocketTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = smtpconversation.Server()
        self.wires: list[Any] = []
        self.protocols = []
        for _ in range(2):
            wire: Any = SocketWire()
            self.wires.append(wire)
            self.protocols.append(self.server.connectBy(wire).protocol)
        self.server.clock.advance(0)
        for wire, protocol in zip(self.wires, self.protocols, strict=True):
            wire.socket.taken = b""
            protocol.dataReceived(b"NOOP\r\n")

    def test_replies_go_out_when_the_turn_ends(self) -> None:
        self.assertEqual([wire.socket.taken for wire in self.wires], [b"", b""])
        self.server.clock.advance(0)
        self.assertEqual([wire.socket.taken for wire in self.wires], [b"250 2.0.0 OK\r\n"] * 2)
        self.assertEqual([wire.value() for wire in self.wires], [b"", b""])

    def test_a_connection_lost_in_the_turn_is_sent_nothing_more(self) -> None:
        self.protocols[0].connectionLost()
        self.server.clock.advance(0)
        self.assertEqual([w.socket.taken for w in self.wires], [b"", b"250 2.0.0 OK\r\n"])

    def test_what_a_full_socket_does_not_take_waits_in_the_transport_and_so_does_all_else(
        self,
    ) -> None:
        for wire, room in zip(self.wires, (0, 4), strict=True):
            wire.socket.room = room
        self.server.clock.advance(0)
        self.assertEqual([wire.socket.taken for wire in self.wires], [b"", b"250 "])
        self.assertEqual(
            [wire.value() for wire in self.wires], [b"250 2.0.0 OK\r\n", b"2.0.0 OK\r\n"]
        )
        for wire, protocol in zip(self.wires, self.protocols, strict=True):
            wire.clear()
            wire.socket.room = 1000  # what waits goes first: nothing may overtake it
            protocol.dataReceived(b"RSET\r\n")
        self.server.clock.advance(0)
        self.assertEqual([wire.socket.taken for wire in self.wires], [b"", b"250 "])
        self.assertEqual([wire.value() for wire in self.wires], [b"250 2.0.0 OK\r\n"] * 2)
