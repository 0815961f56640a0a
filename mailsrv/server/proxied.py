"""Behind HAProxy: the client's own address, out of the PROXY header."""

from __future__ import annotations

from twisted.internet.interfaces import IHalfCloseableProtocol, IHandshakeListener
from twisted.protocols.haproxy._v1parser import V1Parser
from twisted.protocols.haproxy._v2parser import V2Parser
from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper, HAProxyWrappingFactory
from zope.interface import implementer

from mailsrv.server.protocol import SmtpProtocol

# As many octets as Twisted wants to see at once to tell the two forms of the header apart.
_FORMS = ((V2Parser.PREFIX, 16), (V1Parser.PROXYSTR, 8))


@implementer(IHandshakeListener, IHalfCloseableProtocol)
class ProxiedProtocol(HAProxyProtocolWrapper):
    """Twisted's wrapper, that besides tells an SmtpProtocol when the header has come.

    A server that greets first would else judge the proxy's address. The header may come in
    pieces of any size.
    """

    _begun = b""

    def dataReceived(self, data: bytes) -> None:
        if self._hasHeader():
            self.wrappedProtocol.dataReceived(data)
            return
        if self._parser is None:
            data = self._begun = self._begun + data
            if _isIncomplete(data):
                return
        super().dataReceived(data)
        # Where TLS lies between, its handshake tells that the header has come.
        if self._hasHeader() and isinstance(self.wrappedProtocol, SmtpProtocol):
            self.wrappedProtocol.proxied()

    def handshakeCompleted(self) -> None:
        """TLS by STARTTLS, which the transport has put around us and not around the protocol."""
        IHandshakeListener(self.wrappedProtocol).handshakeCompleted()

    def readConnectionLost(self) -> None:
        """The client has closed its side: SMTP has an answer to that, TLS and no header none."""
        if self._hasHeader() and isinstance(self.wrappedProtocol, SmtpProtocol):
            self.wrappedProtocol.readConnectionLost()
        else:
            self.loseConnection()

    def writeConnectionLost(self) -> None:
        """Our last reply has gone out."""

    def _hasHeader(self) -> bool:
        return self._proxyInfo is not None


def _isIncomplete(begun: bytes) -> bool:
    return any(
        len(begun) < needed and (begun.startswith(prefix) or prefix.startswith(begun))
        for prefix, needed in _FORMS
    )


class ProxiedFactory(HAProxyWrappingFactory):
    """Wraps the factory of a Listener with `isProxied`; a connection without a header is closed.

    Trust is by listener: whoever reaches its port may say what client it speaks for.
    """

    noisy = False
    protocol = ProxiedProtocol  # type: ignore[assignment]
