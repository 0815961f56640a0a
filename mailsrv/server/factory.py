"""The factory: what its sessions share, and how many there may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import ip_address

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IOpenSSLServerConnectionCreator,
    IReactorTime,
)
from twisted.internet.protocol import ServerFactory

from mailsrv.extract import extract
from mailsrv.interfaces import (
    IDirectory,
    IMessageStore,
    IPolicy,
    IServerExtension,
    ISessionObserver,
    Limits,
)
from mailsrv.server.audience import Audience
from mailsrv.server.commands import VERBS
from mailsrv.server.protocol import SmtpProtocol
from mailsrv.server.session import Session
from mailsrv.server.site import Extractor, Listener, Site
from mailsrv.server.spool import SpoolBudget
from mailsrv.server.wire import Turn
from mailsrv.smtp import reply as r
from mailsrv.smtp.message import Content, Summary
from mailsrv.smtp.reply import Reply

EXTRACTED = 2**20  # octets of a message that are looked at for subject, date and body
CHECK_TIME = 1.0  # seconds between two looks at the clock


def _extractHere(content: Content) -> Summary:
    return extract(content.head(EXTRACTED))


class SmtpServerFactory(ServerFactory):
    """Makes SMTP sessions that land mail in `store` for recipients `directory` knows.

    Usable with any endpoint. `hostname`: our own name, a domain. `extract`: gives the Summary of a
    content, or a Deferred of it; by default it is done on the spot. `tls`: what STARTTLS turns to.
    `maxConnections`: in all; `maxConnectionsPerClient`: 0 for no limit. It counts connections
    over all its listeners (`forListener`). Raises ValueError: two extensions claim one word.
    """

    noisy = False

    def __init__(
        self,
        store: IMessageStore,
        directory: IDirectory,
        reactor: IReactorTime,
        *,
        hostname: str,
        limits: Limits | None = None,
        extensions: Sequence[IServerExtension],
        policies: Sequence[IPolicy] = (),
        observers: Sequence[ISessionObserver] = (),
        budget: SpoolBudget | None = None,
        spoolDirectory: str | None = None,
        extract: Extractor = _extractHere,
        maxConnections: int = 1000,
        maxConnectionsPerClient: int = 0,
        tls: IOpenSSLServerConnectionCreator | None = None,
        allowVrfy: bool = True,
        allowExpn: bool = True,
    ) -> None:
        self._reactor = reactor
        self.seconds = reactor.seconds
        self.site = Site(
            hostname=hostname,
            store=store,
            directory=directory,
            limits=limits or Limits(),
            extensions=extensions,
            policies=policies,
            observer=Audience(observers),
            budget=budget or SpoolBudget(),
            spoolDirectory=spoolDirectory,
            extract=extract,
            seconds=reactor.seconds,
            now=_now,
            tls=tls,
            allowVrfy=allowVrfy,
            allowExpn=allowExpn,
        )
        for verb in self.site.verbOwners.keys() & VERBS:
            keyword = self.site.verbOwners[verb].getKeyword()
            raise ValueError(f"{keyword} claims {verb}, which the server itself answers")
        self._maxConnections = maxConnections
        self._maxPerClient = maxConnectionsPerClient
        self.turn = Turn(self.soon)
        self._protocols: set[SmtpProtocol] = set()
        self._clients: Counter[str] = Counter()
        self._timer: IDelayedCall | None = None
        self._isStopping = False
        self._emptied: list[Deferred[None]] = []

    @property
    def connections(self) -> int:
        """How many clients are connected now."""
        return len(self._protocols)

    def buildProtocol(self, addr: IAddress | None) -> SmtpProtocol:  # type: ignore[override]
        return SmtpProtocol(self, Listener())

    def forListener(self, listener: Listener) -> ListenerFactory:
        """A factory for a further port: same site, same counts, other manners."""
        return ListenerFactory(self, listener)

    # What protocols ask for

    def soon(self, call: Callable[[], None]) -> None:
        """Call in the reactor's next turn."""
        self._reactor.callLater(0, call)

    def openSession(self, protocol: SmtpProtocol, listener: Listener) -> Session:
        """A session for a client that has just connected; it counts until `release`."""
        self._protocols.add(protocol)
        if self._timer is None:
            self._timer = self._reactor.callLater(CHECK_TIME, self._checkTime)
        return Session(self.site, listener)

    def identify(
        self, protocol: SmtpProtocol, client: IAddress, listener: IAddress
    ) -> Reply | None:
        """Tell the session who the client is, and where it came in, which is known now.

        Returns what is said in place of the greeting: 421 over a limit, or while the server stops.
        """
        session = protocol.session
        session.peer = peer = getattr(client, "host", "")
        session.isLoopback = _isLoopback(peer) and _isLoopback(getattr(listener, "host", ""))
        self._clients[peer] += 1
        protocol.client = peer
        if self._isStopping:
            return r.shuttingDown(self.site.hostname)
        # Who comes by a UNIX socket has no address to be counted by.
        tooManyOfOne = peer and 0 < self._maxPerClient < self._clients[peer]
        if tooManyOfOne or len(self._protocols) > self._maxConnections:
            return r.tooManyConnections(self.site.hostname)
        return None

    def release(self, protocol: SmtpProtocol) -> None:
        """A client has gone."""
        self._protocols.discard(protocol)
        client = protocol.client
        if client is not None:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]
        if not self._protocols:
            self._allGone()

    def _allGone(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        emptied, self._emptied = self._emptied, []
        for waiting in emptied:
            waiting.callback(None)

    def _checkTime(self) -> None:
        """One timer for all sessions: a timer each would cost every command a reset."""
        self._timer = self._reactor.callLater(CHECK_TIME, self._checkTime)
        now = self.seconds()
        for protocol in list(self._protocols):
            protocol.checkTime(now)

    def shutdown(self) -> Deferred[None]:
        """End every session: 421 to the idle, to the others after their pending answer.

        Fires when all are gone; a client that does not go is cut after a moment. New ones get 421.
        """
        self._isStopping = True
        emptied: Deferred[None] = Deferred()
        self._emptied.append(emptied)
        for protocol in list(self._protocols):
            protocol.shutDown()
        if not self._protocols:
            self._allGone()
        return emptied


class ListenerFactory(ServerFactory):
    """The factory of one more port of a server."""

    noisy = False

    def __init__(self, server: SmtpServerFactory, listener: Listener) -> None:
        self.server = server
        self.listener = listener

    def buildProtocol(self, addr: IAddress | None) -> SmtpProtocol:  # type: ignore[override]
        return SmtpProtocol(self.server, self.listener)


def _now() -> datetime:
    return datetime.now(UTC)


@lru_cache(maxsize=1024)
def _isLoopback(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return not address
