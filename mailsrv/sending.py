"""What leaves a server, out of its settings: queued mail, and events for the application."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from functools import partial
from secrets import token_hex
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IAddress, IResolver
from twisted.logger import Logger
from twisted.names import cache, client, hosts
from twisted.names.resolve import ResolverChain

from mailsrv.client.nexthop import NextHop, NextHops
from mailsrv.client.transport import EsmtpTransport
from mailsrv.extensions.starttls import TlsPolicy
from mailsrv.interfaces import IDirectory, IMessageStore, ISessionObserver, UnexpectedReply
from mailsrv.process import StartError
from mailsrv.relay.counters import Counters
from mailsrv.relay.delivery import Delivery
from mailsrv.relay.events import Courier, Couriers
from mailsrv.relay.here import Here
from mailsrv.relay.observer import RelayObserver, StoredObserver
from mailsrv.relay.ourselves import Ourselves
from mailsrv.relay.reporter import Reporter
from mailsrv.relay.route import Route
from mailsrv.relay.schedule import Schedule
from mailsrv.relay.webhook import WebhookReceiver
from mailsrv.relay.worker import Connect, QueueWorker
from mailsrv.remote import Remote, hasTls, transportTo
from mailsrv.settings import Settings
from mailsrv.smtp import local
from mailsrv.smtp.reply import Reply
from mailsrv.store.dialect import Dialect
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.sqlevents import SqlEvents
from mailsrv.store.sqlqueue import SqlQueue

QUEUE, EVENTS = "queue", "events"  # what processes tell one another
QUEUE_THREADS = 2
MX_PORT = 25
STOP_COURIERS = 3.0  # seconds for requests under way, and as many again to write them down
# A mail host of this name is no way out of here.
OWN_ADDRESSES = ("0.0.0.0", "127.0.0.1", "::", "::1")  # noqa: S104

_RESOLV_CONF = "/etc/resolv.conf"

_log = Logger(namespace="smtpstore")


class Sending:
    """The queue's worker and the couriers of one server, started and stopped with it.

    A sink never relays: without local domains there is no worker. Owns its pools; `store` and
    `directory` are the server's. `tell`: another process sends, it is told QUEUE or EVENTS where
    there is something for it. Raises StartError where something that is needed is missing.
    """

    def __init__(
        self,
        settings: Settings,
        dialect: Dialect,
        reactor: Any,
        directory: IDirectory,
        store: IMessageStore,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._settings = settings
        self._reactor = reactor
        self._store = store
        self._pools: list[ConnectionPool] = []
        self._pool = partial(ConnectionPool, dialect, reactor, timeout=settings.dbTimeout)
        self._route: Route | None = None
        self._smartHost = _checked(settings.smartHost)
        self._hasTls = hasTls()
        self.observers: list[ISessionObserver] = []
        self._worker: QueueWorker | None = None
        self._couriers: Couriers | None = None
        if settings.domains:
            self._relay(directory, tell)
        if settings.webhooks and tell is not None:
            self.observers.append(StoredObserver(partial(tell, EVENTS)))
        elif settings.webhooks:
            self._couriers = self._makeCouriers()
            self.observers.append(self._couriers)

    @property
    def counters(self) -> Counters | None:
        """What was relayed so far; None where this process does not."""
        return None if self._worker is None else self._worker.counters

    def announce(self) -> None:
        """Say in the log where mail and events go."""
        settings = self._settings
        if self._worker is not None and not self._hasTls:
            _log.warn("Mail goes out without TLS: pip install 'smtpstore[tls]'")
        if self._smartHost is not None and self._worker is None:
            _log.warn("--smart-host is of no use: a sink, a server without --domain, never relays")
        elif self._smartHost is not None:
            _log.info("Mail for elsewhere goes to {host}", host=self._smartHost)
        for webhook in settings.webhooks:
            _log.info("Events go to {url}", url=webhook.url)
        if settings.webhooks and not settings.webhookSecrets:
            _log.warn("Webhooks are not signed: set SMTPSTORE_WEBHOOK_SECRET")

    def start(self, ports: Iterable[IAddress] = ()) -> None:
        """Begin to work; `ports`: where this server listens, for mail that leads back to it."""
        if self._worker is not None:
            if self._smartHost is None:
                us = Ourselves(ports)
                self._route = Route(
                    self._nextHops().ofDomain,
                    self._mxTransports,
                    lambda transport: us.isAt(*transport.ends),
                )
            self._worker.start()
        if self._couriers is not None:
            self._couriers.start()

    def hear(self, word: str) -> None:
        """Another process says that there is something to send."""
        if word == QUEUE and self._worker is not None:
            self._worker.poke()
        elif word == EVENTS and self._couriers is not None:
            self._couriers.poke()

    def stop(self, limit: float) -> Deferred[None]:
        """Begin nothing more, and write down what became of the rest, within `limit` seconds."""
        stopping = [self._worker.stop(limit)] if self._worker is not None else []
        if self._couriers is not None:
            stopping.append(self._couriers.stop(min(STOP_COURIERS, limit / 2)))
        return gatherResults(stopping).addCallback(_nothing)

    def close(self, limit: float) -> Deferred[None]:
        """Close the pools."""
        closed = gatherResults([pool.close(limit) for pool in self._pools])
        return closed.addCallback(_nothing)

    def _open(self, threads: int, name: str) -> ConnectionPool:
        pool = self._pool(threads, name)
        self._pools.append(pool)
        return pool

    # Queued mail

    def _relay(self, directory: IDirectory, tell: Callable[[str], None] | None) -> None:
        settings, pool = self._settings, self._open(QUEUE_THREADS, "queue")
        # The process comes first, as the name may be cut.
        name = f"{os.getpid()}-{token_hex(4)}@{settings.hostname}"
        queue = SqlQueue(pool, name, [each.url for each in settings.webhooks])
        reporter = Reporter(directory, settings.hostname, _now)
        poke: Callable[[], Any]
        if tell is not None:
            poke = partial(tell, QUEUE)
        else:
            self._worker = QueueWorker(
                queue,
                Delivery(queue, reporter, self._reactor, _now, Schedule()),
                self._connector(),
                self._reactor,
                _now,
                hopOf=str if self._smartHost is None else lambda _: str(self._smartHost),
                here=Here(directory, settings.domains),
            )
            poke = self._worker.poke
        self.observers.append(RelayObserver(queue, self._store, reporter, poke))

    def _connector(self) -> Connect:
        smartHost = self._smartHost
        if smartHost is None:
            return self._toDomain
        return lambda _: Deferred.fromCoroutine(self._toSmartHost(smartHost))

    def _toDomain(self, domain: str) -> Deferred[EsmtpTransport]:
        assert self._route is not None
        return self._route.connect(domain)

    async def _toSmartHost(self, smartHost: Remote) -> EsmtpTransport:
        """What it says before any mail, a wrong password say, is about us: no mail fails by it."""
        transport = transportTo(smartHost, self._reactor, self._settings.hostname)
        try:
            await transport.connect()
        except UnexpectedReply as error:
            raise UnexpectedReply(_putOff(error.reply)) from None
        return transport

    def _nextHops(self) -> NextHops:
        return NextHops(
            makeResolver(self._reactor),
            ownNames=[self._settings.hostname],
            ownAddresses=OWN_ADDRESSES,
        )

    def _mxTransports(self, hop: NextHop) -> Iterator[EsmtpTransport]:
        """With TLS, then without: in clear is better than not at all (RFC 7435)."""
        for tls in [TlsPolicy.OPPORTUNISTIC, None] if self._hasTls else [None]:
            remote = Remote(hop.address, MX_PORT, tls=tls)
            yield transportTo(remote, self._reactor, self._settings.hostname, hostname=hop.host)

    # Events

    def _makeCouriers(self) -> Couriers:
        settings, source = self._settings, SqlEvents(self._open(1, "events"))
        try:
            receivers = [
                WebhookReceiver(webhook, settings.webhookSecrets, self._reactor)
                for webhook in settings.webhooks
            ]
        except ImportError:
            raise StartError("--webhook needs treq: pip install 'smtpstore[webhook]'") from None
        return Couriers(Courier(source, each, self._reactor) for each in receivers)


def makeResolver(reactor: Any) -> IResolver:
    """Asks /etc/hosts, then what it knows already, then the servers of /etc/resolv.conf."""
    try:
        servers = client.Resolver(resolv=_RESOLV_CONF, reactor=reactor)
    except OSError as error:
        _log.warn("{file}: {error}; 127.0.0.1 is asked", file=_RESOLV_CONF, error=error.strerror)
        servers = client.Resolver(servers=[("127.0.0.1", 53)], reactor=reactor)
    known = cache.CacheResolver(reactor=reactor)
    chain: IResolver = ResolverChain([hosts.Resolver(), known, servers])
    return chain


def _checked(smartHost: Remote | None) -> Remote | None:
    """The smart host as it can be reached with what is installed."""
    if smartHost is None or hasTls():
        return smartHost
    if smartHost.needsTls:
        raise StartError("--smart-host with TLS needs pyOpenSSL: pip install 'smtpstore[tls]'")
    return Remote(smartHost.host, smartHost.port, tls=None)


def _putOff(reply: Reply) -> Reply:
    if reply.code // 100 == 4:
        return reply
    said = " ".join(filter(None, (str(reply.code), reply.enhanced, reply.text)))
    return local.local(451, "4.3.5", f"The smart host does not let us send: {said}")


def _nothing(_: object) -> None:
    """For a Deferred of nothing."""


def _now() -> datetime:
    return datetime.now(UTC)
