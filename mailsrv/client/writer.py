"""The wire of a client: commands and content out, replies in (RFC 5321 §4.2, RFC 2920)."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IHandshakeListener,
    IReactorTime,
    ISSLTransport,
)
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.client.stream import ContentStream, Encoding
from mailsrv.client.timeouts import Timeouts
from mailsrv.interfaces import (
    IContentProducer,
    IEsmtpCommandWriter,
    IOctetBuffer,
    UnexpectedReply,
)
from mailsrv.smtp import local
from mailsrv.smtp.command import Command
from mailsrv.smtp.reply import Reply
from mailsrv.smtp.replyreader import MalformedReply, ReplyReader
from mailsrv.smtp.transparency import BareNewline

_FORBIDDEN = re.compile(rb"[\0\r\n]")
_LOST = Failure(ConnectionError())


class _Awaited(NamedTuple):
    """A reply that is owed."""

    deferred: Deferred[Reply]
    expectedCodes: Collection[int]
    timeout: float

    def answer(self, reply: Reply) -> None:
        if self.expectedCodes and reply.code not in self.expectedCodes:
            self.deferred.errback(UnexpectedReply(reply))
        else:
            self.deferred.callback(reply)


@implementer(IOctetBuffer)
class OctetBuffer:
    """What extensions may do with the octets themselves."""

    def __init__(
        self,
        write: Callable[[bytes], None],
        startTLS: Callable[[Any, bool], Deferred[None]],
    ) -> None:
        self.write = write
        self.startTLS = startTLS


@implementer(IEsmtpCommandWriter, IHandshakeListener)
class EsmtpCommandWriter(Protocol):
    """Sends commands and content over a transport, and gives each the reply that answers it.

    It owns the transport, the timing and the order of replies; it knows nothing of mail
    transactions. However the connection ends, what is still awaited is answered with `ended`:
    the server's 421, or a LocalReply that says why; so is all that is asked for later.
    """

    transport: Any  # ITCPTransport, or what TLS wraps around it

    def __init__(self, clock: IReactorTime, hostname: str, timeouts: Timeouts) -> None:
        self.hostname = hostname
        self.keywords: Mapping[str, str] = {}
        self.isSecure = False
        self.isVerified = False
        self.ended: Reply | None = None
        self.lost: Deferred[None] = Deferred()
        self._clock = clock
        self._timeouts = timeouts
        self._reader = ReplyReader()
        self._awaited: deque[_Awaited] = deque()
        self._held: deque[tuple[bytes, _Awaited]] = deque()
        self._stream: ContentStream | None = None
        self._handshake: Deferred[None] | None = None
        self._willBeVerified = False
        self._timer: IDelayedCall | None = None

    @property
    def ends(self) -> tuple[IAddress, IAddress]:
        """The addresses of both ends of the connection: ours, and the server's."""
        return self.transport.getHost(), self.transport.getPeer()

    # What is said

    def getBuffer(self) -> IOctetBuffer:
        return OctetBuffer(self._write, self._startTLS)

    def executeCommand(
        self, command: Command, expectedCodes: Collection[int] = ()
    ) -> Deferred[Reply]:
        octets = command.octets
        if _FORBIDDEN.search(octets, 0, len(octets) - 2):
            return fail(ValueError("a command of more than one line"))
        return self._say(octets, expectedCodes, self._timeouts.after(command.verb))

    def sendContent(
        self, producer: IContentProducer, encoding: Encoding, announcement: bytes = b""
    ) -> Deferred[Reply]:
        """Send content, as fast as the server takes it, and wait for the reply to its end.

        `announcement`: a command that goes before it without a reply of its own (BDAT). No reply
        may be awaited. A reply before the end is final where it refuses; the connection, which
        could only go on with the rest of the content, is ended by it.
        """
        replied = self._say(announcement, (), self._timeouts.block)
        if self.ended is None:
            self._stream = stream = ContentStream(
                producer, encoding, self._write, self._contentMoved
            )
            # What has come behind the 354 already is an early reply, and none is waited for.
            if self._reader.isEmpty:
                self.transport.registerProducer(stream, True)
                stream.start().addCallbacks(self._contentEnded, self._contentFailed)
        return replied

    def _say(
        self, octets: bytes, expectedCodes: Collection[int], timeout: float
    ) -> Deferred[Reply]:
        awaited = _Awaited(Deferred(lambda _: self.end(local.ABORTED)), expectedCodes, timeout)
        if self.ended is not None:
            awaited.answer(self.ended)
        elif self._awaited and "PIPELINING" not in self.keywords:
            self._held.append((octets, awaited))
        else:
            self._await(octets, awaited)
        return awaited.deferred

    def _await(self, octets: bytes, awaited: _Awaited) -> None:
        isFirst = not self._awaited
        self._awaited.append(awaited)
        if isFirst and octets and not self._reader.isEmpty:
            # What came before the command went out cannot be its reply.
            self.end(local.UNASKED_REPLY)
        else:
            if isFirst:
                self._startTimer(awaited.timeout)
            self._write(octets)

    def _write(self, octets: bytes) -> None:
        if octets:
            self.transport.write(octets)

    # Content

    def _contentMoved(self) -> None:
        self._startTimer(self._timeouts.block)

    def _contentEnded(self, _: None) -> None:
        self._stream = None
        self.transport.unregisterProducer()
        self._startTimer(self._timeouts.end)

    def _contentFailed(self, failure: Failure) -> None:
        """Half a message must not look whole: only the end of the connection ends it."""
        self._stream = None
        isBare = failure.check(BareNewline) is not None
        self.end(local.HAS_BARE_NEWLINE if isBare else local.UNREADABLE)

    # What is heard

    def connectionMade(self) -> None:
        # TLS from the first octet is the endpoint's, and so is what it verifies.
        self.isSecure = self.isVerified = ISSLTransport.providedBy(self.transport)
        self.greeting = self._say(b"", (), self._timeouts.greeting)

    def dataReceived(self, data: bytes) -> None:
        if self.ended is not None:
            return
        self._reader.feed(data)
        try:
            while self.ended is None and (reply := self._reader.next()) is not None:
                self._replyReceived(reply)
        except MalformedReply:
            self.end(local.MALFORMED_REPLY)

    def _replyReceived(self, reply: Reply) -> None:
        if self._stream is not None and reply.isPositive:
            reply = local.UNASKED_REPLY
        if not self._awaited:
            self.end(reply if reply.code == 421 else local.UNASKED_REPLY)
        elif self._stream is not None or reply.code == 421:
            self.end(reply)
        else:
            awaited = self._awaited.popleft()
            if not self._awaited and self._held:
                self._await(*self._held.popleft())
            else:
                self._startTimer(self._awaited[0].timeout if self._awaited else None)
            awaited.answer(reply)

    # TLS (RFC 3207)

    def _startTLS(self, connectionCreator: Any, isVerified: bool) -> Deferred[None]:
        if not self._reader.isEmpty or self._awaited:
            # Said in clear, to be believed as if it had come in TLS.
            self.end(local.INJECTED_REPLY)
        if self.ended is not None:
            return fail(UnexpectedReply(self.ended))
        self.keywords = {}
        self._willBeVerified = isVerified
        self._handshake = Deferred(lambda _: self.end(local.ABORTED))
        self._startTimer(self._timeouts.command)
        handshake = self._handshake
        try:
            self.transport.startTLS(connectionCreator)
        except Exception:
            # The creator could not make a context of what it was given.
            self.end(local.TLS_FAILED)
        return handshake

    def handshakeCompleted(self) -> None:
        handshake, self._handshake = self._handshake, None
        if handshake is not None and self.ended is None:
            self._startTimer(None)
            self.isSecure = True
            self.isVerified = self._willBeVerified
            handshake.callback(None)

    # The end

    def close(self) -> None:
        """Close once all is written; a server that does not let go is cut after a moment."""
        self._end(local.NOT_CONNECTED)
        if not self.lost.called:
            self._startTimer(self._timeouts.quit)
            self.transport.loseConnection()

    def end(self, reply: Reply) -> None:
        """Cut the connection: `reply` answers all that is still awaited."""
        self._end(reply, self.transport.abortConnection)

    def _end(self, reply: Reply, cut: Callable[[], None] | None = None) -> None:
        """No more is said and heard; who waits, or asks later, is answered with `reply`."""
        if self.ended is not None:
            return
        self.ended = reply
        self._startTimer(None)
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.stopProducing()
        if cut is not None:
            cut()
        handshake, self._handshake = self._handshake, None
        if handshake is not None:
            handshake.errback(UnexpectedReply(reply))
        owed = [*self._awaited, *(awaited for _, awaited in self._held)]
        self._awaited.clear()
        self._held.clear()
        for awaited in owed:
            awaited.answer(reply)

    def connectionLost(self, reason: Failure = _LOST) -> None:
        self._end(local.TLS_FAILED if self._handshake is not None else local.DROPPED)
        self._startTimer(None)
        self.lost.callback(None)

    # Time (§4.5.3.2)

    def _startTimer(self, seconds: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None if seconds is None else self._clock.callLater(seconds, self._timedOut)

    def _timedOut(self) -> None:
        self._timer = None
        if self.ended is None:
            self.end(local.NO_REPLY_IN_TIME)
        else:
            self.transport.abortConnection()
