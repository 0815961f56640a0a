"""Octets become commands and content, answers become octets (RFC 5321 §2.3.8, §4.5.3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHalfCloseableDescriptor, IHandshakeListener
from twisted.internet.tcp import Connection
from twisted.protocols.basic import LineReceiver
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.interfaces import MaybeDeferredAnswer
from mailsrv.server.session import Session
from mailsrv.server.site import Listener
from mailsrv.server.state import RAW, State
from mailsrv.server.wire import Hold, Wire
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import MAX_LINE, readLine
from mailsrv.smtp.reply import Reply

if TYPE_CHECKING:
    from mailsrv.server.factory import SmtpServerFactory

MAX_ANY_LINE = 12_288  # octets with CRLF, of AUTH and its dialogue (RFC 4954 §4.3)
HANDSHAKE = 30.0  # seconds for a PROXY header, or the handshake of TLS
LINGER = 5.0  # seconds a client may take to read our last reply
SLOW_AFTER = 60.0  # seconds of content before its speed is looked at
SLOWEST = 100  # octets a second
_NO_LINES = RAW | {State.CLOSED, State.TLS}  # what is expected next are no lines


@implementer(IHandshakeListener)
class SmtpProtocol(Wire):
    """Turns octets into commands and content for a Session, and its answers into octets.

    It owns the timing; it decides nothing about SMTP: what the next octets are follows from the
    session's State.
    """

    delimiter = b"\n"  # a line without CR before its LF is refused at that LF
    MAX_LENGTH = MAX_ANY_LINE - 1

    session: Session
    factory: SmtpServerFactory

    def __init__(self, factory: SmtpServerFactory, listener: Listener) -> None:
        Wire.__init__(self, factory.turn)
        self.factory = factory
        self.client: str | None = None  # the address it is counted under
        self._listener = listener
        self._isSkipping = False
        self._answering: Deferred[None] | None = None
        self._isStopping = False
        self._contentOctets = 0
        self._contentSince = 0.0
        self._activeAt = 0.0

    # The transport

    def connectionMade(self) -> None:
        self._activeAt = self.factory.seconds()
        self.transport.registerProducer(self, True)
        self.session = self.factory.openSession(self, self._listener)
        if isinstance(self.transport, Connection):
            self._socket = self.transport.getHandle()
        self._stop(Hold.HANDSHAKE)
        if not self._listener.isSecure and not self._listener.isProxied:
            self._begin()

    def proxied(self) -> None:
        """The PROXY header has come: only now it is known who the client is."""
        if not self._listener.isSecure:
            self._begin()

    def handshakeCompleted(self) -> None:
        """TLS is on, from the first octet or behind STARTTLS (IHandshakeListener)."""
        if self.session.state is not State.TLS:
            self._begin()
            return
        self.session.secured()
        self._activeAt = self.factory.seconds()
        self._goOn(Hold.HANDSHAKE)

    def _begin(self) -> None:
        refusal = self.factory.identify(self, self.transport.getPeer(), self.transport.getHost())
        self._answer(self.session.connected(refusal))
        self._goOn(Hold.HANDSHAKE)

    def connectionLost(self, reason: Failure | None = None) -> None:
        self._hold |= Hold.OVER
        self.paused = True
        self.clearLineBuffer()
        self._unsent = b""
        answering, self._answering = self._answering, None
        if answering is not None:
            answering.cancel()
        self.session.connectionLost("" if reason is None else reason.getErrorMessage())
        self.factory.release(self)

    def resumeProducing(self) -> None:
        """The client reads its replies again."""
        self._activeAt = self.factory.seconds()
        Wire.resumeProducing(self)

    # Lines

    def _takeLine(self, line: bytes) -> None:
        self._activeAt = self.factory.seconds()
        session = self.session
        if session.state is State.LINES:
            fault = None if line.endswith(b"\r") else r.BARE_LF
            self._answer(session.malformed(fault, line) if fault else session.line(line[:-1]))
            return
        command, fault = readLine(line)
        if len(line) >= MAX_LINE and len(line) >= session.lineLimit(command.verb):
            fault = r.LINE_TOO_LONG
        self._answer(session.malformed(fault, line) if fault else session.command(command))

    def lineLengthExceeded(self, line: bytes) -> None:
        """Read over the line, however long it is; memory stays bounded."""
        self._isCutShort = True  # LineReceiver returns from here, whatever is in its buffer
        self._isSkipping = True
        self.setRawMode()
        self.rawDataReceived(line)

    def _skip(self, data: bytes) -> None:
        end = data.find(b"\n")
        if end < 0:
            return
        self._isSkipping = False
        self._activeAt = self.factory.seconds()
        self._backToLines(data[end + 1 :])
        self._answer(self.session.malformed(r.LINE_TOO_LONG, data[: end + 1][:64]))

    def _backToLines(self, rest: bytes) -> None:
        """Before the answer, which may go on with the lines in `rest`, or forget them."""
        self.setLineMode()
        if rest:
            LineReceiver.dataReceived(self, rest)  # which is under way, and only keeps it

    # Content

    def rawDataReceived(self, data: bytes) -> None:
        if self._isSkipping:
            self._skip(data)
            return
        self._activeAt = self.factory.seconds()
        self._contentOctets += len(data)
        rest = self.session.contentReceived(data)
        if rest is None:
            return
        self._backToLines(rest)
        self._answer(self.session.contentEnded())

    # Answers

    def _answer(self, answer: MaybeDeferredAnswer) -> None:
        if isinstance(answer, Reply) or answer is None:
            self._say(answer)
            return
        self._stop(Hold.ANSWER)
        self._answering = answer
        answer.addCallback(self._answered)

    def _answered(self, reply: Reply | None) -> None:
        self._answering = None
        self._activeAt = self.factory.seconds()
        if self._hold & Hold.OVER:
            return
        self._hold &= ~Hold.ANSWER  # first: an empty chunk is answered, perhaps later, at once
        self._say(reply)
        if self._isStopping and self.session.state is not State.CLOSED:
            self._say(self.session.shutDown())
        self._goOn()

    def _say(self, reply: Reply | None) -> None:
        """Queue the reply, and do what the session's State now asks for."""
        if reply is not None:
            self._send(reply.octets)
        state = self.session.state
        if state not in _NO_LINES:
            return  # as nearly always: to name a State of an Enum takes 40 ns
        if state in RAW:
            self._contentOctets = 0
            self._contentSince = self._activeAt
            self.setRawMode()
            if state is State.CHUNK:
                self.rawDataReceived(b"")  # a chunk of no octets has come already
        elif state is State.CLOSED:
            self._close(reply)
        elif state is State.TLS:
            self._startTLS()

    def _startTLS(self) -> None:
        """220 has been said: what the client sent in clear behind STARTTLS is thrown away."""
        self.clearLineBuffer()
        self.sendNow()
        self._socket = None
        self._stop(Hold.HANDSHAKE)
        self._read()  # the handshake, though what came behind STARTTLS was not taken any more
        self.transport.startTLS(self.factory.site.tls)

    def _close(self, reply: Reply | None) -> None:
        """The last reply has been said. Behind a 421 the client is still sending: reset by
        unread octets it would never read why, so they are read over for a moment."""
        self._stop(Hold.OVER)
        self.clearLineBuffer()
        self.sendNow()
        self._activeAt = self.factory.seconds()
        self.transport.unregisterProducer()
        self._read()
        transport = self.transport
        isGoodbye = reply is not None and reply.code == 221
        isWhole = isGoodbye or self._isHalfClosed or self.session.isSecure
        isByHalves = not isWhole and IHalfCloseableDescriptor.providedBy(transport)
        if isByHalves:
            transport.loseWriteConnection()
        else:
            transport.loseConnection()

    # Time

    def checkTime(self, now: float) -> None:
        """Called about once a second: end what takes too long (§4.5.3.2)."""
        idle = now - self._activeAt
        if self._hold & Hold.OVER:
            if idle > LINGER:
                self.transport.abortConnection()
        elif self._hold & Hold.HANDSHAKE:
            if idle > HANDSHAKE:
                self.transport.abortConnection()
        elif self._hold & Hold.ANSWER:
            return
        elif idle > self.session.limits.timeout or self._isTooSlow(now):
            self._say(self.session.timedOut())

    def _isTooSlow(self, now: float) -> bool:
        if self.line_mode or self._isSkipping:
            return False
        lasted = now - self._contentSince
        return lasted > SLOW_AFTER and self._contentOctets < lasted * SLOWEST

    def shutDown(self) -> None:
        """The server stops: a pending answer is said first, then, or at once, 421."""
        self._isStopping = True
        if self._hold & Hold.HANDSHAKE:
            self.transport.abortConnection()
        elif not self._hold & (Hold.ANSWER | Hold.OVER):
            self._say(self.session.shutDown())
