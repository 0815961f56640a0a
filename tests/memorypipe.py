"""Two protocols joined in memory, with real TLS where one of them asks for it."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import ISSLTransport, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import directlyProvides, implementer


class Below:
    """What TLS writes to: the end itself, past its TLS."""

    def __init__(self, end: End) -> None:
        self._end = end
        self.registerProducer = end.registerBelow
        self.unregisterProducer = end.unregisterBelow
        self.getPeer = end.getPeer
        self.getHost = end.getHost
        self.pauseProducing = end.pauseProducing
        self.resumeProducing = end.resumeProducing

    def write(self, octets: bytes) -> None:
        self._end.sent.append(octets)

    def loseConnection(self) -> None:
        self._end.isClosing = True

    abortConnection = loseConnection


class End(StringTransport):
    """One end of the pipe."""

    def __init__(self, clock: Clock, isClient: bool) -> None:
        super().__init__()
        self.sent: list[bytes] = []
        self.seen: list[bytes] = []
        self.isClosing = False
        self.isLost = False
        self._clock = clock
        self._isClient = isClient
        self._tls: Any = None

    def write(self, octets: bytes) -> None:
        if self._tls is not None:
            self._tls.write(octets)
        else:
            self.sent.append(octets)

    def loseConnection(self) -> None:
        if self._tls is not None:
            self._tls.loseConnection()
        else:
            self.isClosing = True

    def abortConnection(self) -> None:
        self.isClosing = True

    def registerBelow(self, producer: Any, streaming: bool) -> None:
        StringTransport.registerProducer(self, producer, streaming)

    def unregisterBelow(self) -> None:
        StringTransport.unregisterProducer(self)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        (self._tls or super()).registerProducer(producer, streaming)

    def unregisterProducer(self) -> None:
        (self._tls or super()).unregisterProducer()

    def startTLS(self, creator: Any, normal: bool = True) -> None:
        producer = self.producer
        if producer is not None:
            self.unregisterProducer()
        factory = TLSMemoryBIOFactory(creator, self._isClient, None, clock=self._clock)
        self._tls = self.protocol = factory.protocol(factory, self.protocol, False)
        directlyProvides(self, ISSLTransport)
        self._tls.makeConnection(Below(self))
        if producer is not None:
            self.registerProducer(producer, True)


@implementer(IStreamClientEndpoint)
class MemoryPipe:
    """An endpoint whose server is `factory`; `pump` carries octets until nothing moves."""

    def __init__(self, factory: Any, clock: Clock) -> None:
        self._factory = factory
        self._clock = clock
        self.client = End(clock, True)
        self.server = End(clock, False)

    def connect(self, factory: Any) -> Deferred[Any]:
        self.server.protocol = self._factory.buildProtocol(None)
        self.client.protocol = factory.buildProtocol(None)
        client = self.client.protocol
        self.server.protocol.makeConnection(self.server)
        self.client.protocol.makeConnection(self.client)
        return succeed(client)

    def pump(self) -> None:
        isMoving = True
        while isMoving:
            self._clock.advance(0)
            isMoving = self._carry(self.client, self.server) | self._carry(self.server, self.client)

    def _carry(self, sender: End, receiver: End) -> bool:
        octets = b"".join(sender.sent)
        sender.sent.clear()
        sender.seen.append(octets)
        if octets and not receiver.isLost:
            receiver.protocol.dataReceived(octets)
            return True
        if sender.isClosing and not sender.isLost:
            for end in (sender, receiver):
                end.isLost = True
                end.protocol.connectionLost(Failure(ConnectionDone()))
            return True
        return False
