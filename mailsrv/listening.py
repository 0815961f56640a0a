"""The ports of a server: opened, or taken over from the process that opened them."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import (
    IListeningPort,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
)

from mailsrv.parent import Parent, adopt
from mailsrv.ports import Port
from mailsrv.process import listen
from mailsrv.server.factory import SmtpServerFactory
from mailsrv.server.proxied import ProxiedFactory
from mailsrv.server.site import Listener


class Ports:
    """Opens one port after the other for `server`, and wraps it in what a port asks for.

    `tls`: for those that are secure from the first octet. `parent`: has opened them all.
    `owner`: the user and group that UNIX sockets are given to.
    """

    def __init__(
        self,
        server: SmtpServerFactory,
        tls: IOpenSSLServerConnectionCreator | None,
        reactor: Any,
        parent: Parent | None = None,
        owner: tuple[int, int] | None = None,
    ) -> None:
        self._server = server
        self._tls = tls
        self._reactor = reactor
        self._sockets = None if parent is None else iter(parent.sockets)
        self._owner = owner

    def open(self, port: Port) -> IListeningPort:
        """Listen on the next port; raises StartError."""
        factory = self._factoryFor(port.listener)
        if self._sockets is not None:
            return adopt(self._reactor, next(self._sockets), factory)
        return listen(self._reactor, port.endpoint, factory, self._owner)

    def _factoryFor(self, listener: Listener) -> IProtocolFactory:
        """The PROXY header comes before TLS, and TLS before SMTP."""
        factory: IProtocolFactory = self._server.forListener(listener)
        if listener.isSecure and self._tls is not None:
            from twisted.protocols.tls import TLSMemoryBIOFactory

            factory = TLSMemoryBIOFactory(self._tls, False, factory, self._reactor)
            factory.noisy = False
        return ProxiedFactory(factory) if listener.isProxied else factory
