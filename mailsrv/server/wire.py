"""The wire: when octets are taken in, and when replies go out; not what they mean."""

from __future__ import annotations

from collections.abc import Callable
from socket import socket
from typing import Any

from twisted.internet.interfaces import IHalfCloseableProtocol, IPushProducer
from twisted.logger import Logger
from twisted.protocols.basic import LineReceiver
from zope.interface import implementer

_log = Logger()

MAX_UNSENT = 65_536  # octets of replies that wait to be sent together
MAX_LINES_A_TURN = 100


class Hold:
    """Why no more octets are taken in, bit by bit; they are taken again when none is left.

    Plain numbers: the operators of enum.Flag would take 6 µs of each message.
    """

    ANSWER = 1  # a command waits for its answer
    OUTPUT = 2  # the client does not read its replies
    TURN = 4  # others shall have their turn
    HANDSHAKE = 8  # a PROXY header or the handshake of TLS is awaited
    OVER = 16  # nothing the client sends matters any more


class Turn:
    """A turn of the reactor: the wires that have something to say when it ends.

    To send a reply takes 12 µs, and 12 more where it wakes a client that sleeps. One that has
    several connections is woken once in a turn: 6 to 10 % more messages a second. `soon(call)`
    calls at the end of the turn.
    """

    def __init__(self, soon: Callable[[Callable[[], None]], None]) -> None:
        self.soon = soon
        self._wires: dict[Wire, None] = {}

    def add(self, wire: Wire) -> None:
        """Have `wire.sendNow()` called at the end of the turn, once."""
        if not self._wires:
            self.soon(self._turnEnds)
        self._wires[wire] = None

    def _turnEnds(self) -> None:
        wires, self._wires = self._wires, {}
        for wire in wires:
            try:
                wire.sendNow()
            except Exception:  # of one connection, which the others have no part in
                _log.failure("A reply could not be sent; the connection is given up")
                wire.transport.abortConnection()


@implementer(IPushProducer, IHalfCloseableProtocol)
class Wire(LineReceiver):
    """A LineReceiver that can be held, and sends in one write what it says in one turn.

    It owns the transport and the pause. Subclasses take lines and raw octets, say replies with
    `_send`, and `_stop` for whatever they wait for.
    """

    transport: Any  # ITCPTransport, or what TLS and PROXY wrap around it

    def __init__(self, turn: Turn) -> None:
        self._turn = turn
        self._hold = 0
        self._isReading = True
        self._isHalfClosed = False
        self._isCutShort = False
        self._lines = 0  # of several that came together, taken in this turn
        self._unsent = b""
        self._socket: socket | None = None  # a bare one, which replies are sent by at once

    # In

    def dataReceived(self, data: bytes) -> None:
        """Take what has arrived.

        Nearly always nothing waits and it is one line, or content: that goes where LineReceiver
        would lead it, 1 µs sooner. All else, as groups of commands and cut lines, goes its way.
        """
        if self._hold:
            if self._hold & Hold.OVER:
                return
            if self._isReading:
                # Only now: a client that waits for its answer never gets here, and costs no call;
                # and who is still read is noticed when it goes.
                self._isReading = False
                self.transport.pauseProducing()
        self._lines = 0
        isAlone = data and not (self._buffer or self.paused or self._busyReceiving)
        if isAlone and not self.line_mode:
            self._receiveAlone(self.rawDataReceived, data)
        elif isAlone and data.find(b"\n") == len(data) - 1 <= self.MAX_LENGTH:
            self._receiveAlone(self._takeLine, data[:-1])
        else:
            self._receive(data)

    def _receiveAlone(self, take: Callable[[bytes], None], data: bytes) -> None:
        self._busyReceiving = True
        try:
            take(data)
        finally:
            self._busyReceiving = False
        if self._buffer:
            self._receive(b"")

    def _receive(self, data: bytes) -> None:
        LineReceiver.dataReceived(self, data)  # where that is under way, it is only kept
        while self._isCutShort and not self._busyReceiving:
            self._isCutShort = False
            LineReceiver.dataReceived(self, b"")

    def lineReceived(self, line: bytes) -> None:
        """One of several lines, which other clients shall not wait for."""
        self._lines += 1
        if self._lines >= MAX_LINES_A_TURN:
            self._stop(Hold.TURN)
            self._turn.soon(self._nextTurn)
        self._takeLine(line)

    def _nextTurn(self) -> None:
        self._lines = 0
        self._goOn(Hold.TURN)

    def _takeLine(self, line: bytes) -> None:
        """Take a line without its LF; for subclasses."""
        raise NotImplementedError

    def _stop(self, reason: int) -> None:
        self._hold |= reason
        self.paused = True

    def _goOn(self, reason: int = 0) -> None:
        """One reason less to wait; with none left, take what is in the buffer, and read again."""
        self._hold &= ~reason
        if self._hold or not self.paused:
            return
        self.paused = False
        if self._buffer:
            self._receive(b"")
        if not self._hold:
            self._read()

    def readConnectionLost(self) -> None:
        """The client has closed its side (IHalfCloseableProtocol): what it had said by then is
        answered first."""
        self._isHalfClosed = True
        if not self._hold & (Hold.ANSWER | Hold.OUTPUT | Hold.TURN):
            self._hangUp()

    def writeConnectionLost(self) -> None:
        """Our last reply has gone out (IHalfCloseableProtocol); the end comes with LINGER."""

    def _hangUp(self) -> None:
        self.sendNow()
        self.transport.loseConnection()

    def _read(self) -> None:
        if self._isHalfClosed:
            self._hangUp()  # nothing more will come
            return
        if not self._isReading:
            self._isReading = True
            self.transport.resumeProducing()

    def pauseProducing(self) -> None:
        """The transport's output is full: a client that does not read is not read either."""
        self._stop(Hold.OUTPUT)

    def resumeProducing(self) -> None:
        """The transport's output has room again."""
        self._goOn(Hold.OUTPUT)

    def stopProducing(self) -> None:
        """The connection is gone; connectionLost says so too."""

    # Out

    def _send(self, octets: bytes) -> None:
        """Queue octets; they go out with all that is said in the same turn."""
        if not self._unsent:
            self._unsent = octets
            self._turn.add(self)
            return
        self._unsent += octets
        if len(self._unsent) > MAX_UNSENT:
            self.sendNow()

    def sendNow(self) -> None:
        """Send what waits, by the system's call where the socket takes it.

        transport.write would wait for the reactor's next turn: two changes of the epoll set and
        a turn more for each reply, a third of what a message costs; transport.writeSomeData takes
        0.6 µs more for each. Never around TLS or a PROXY wrapper, and never again once the socket
        was full and octets wait in the transport.
        """
        octets, self._unsent = self._unsent, b""
        if not octets:
            return
        if self._socket is not None:
            try:
                sent = self._socket.send(octets)
            except OSError:
                sent = 0  # it is full, or gone: the transport finds out which
            if sent == len(octets):
                return
            self._socket = None
            octets = octets[sent:]
        self.transport.write(octets)
