"""A relay on a real database and real sockets, and next hops to relay to."""

from __future__ import annotations

import subprocess
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.task import deferLater

from mailsrv.client.nexthop import NextHop
from mailsrv.client.transport import EsmtpTransport
from mailsrv.extensions.standard import clientExtensions, standardExtensions
from mailsrv.interfaces import IDirectory, IServerExtension, ISessionObserver, Limits
from mailsrv.relay.delivery import Delivery
from mailsrv.relay.limits import RelayLimits
from mailsrv.relay.reporter import Reporter
from mailsrv.relay.route import Route
from mailsrv.relay.schedule import Schedule
from mailsrv.relay.worker import QueueWorker
from mailsrv.server.factory import SmtpServerFactory
from mailsrv.smtp.message import Forward, Message
from mailsrv.store.dialect import parseUrl
from mailsrv.store.directory import SinkDirectory
from mailsrv.store.memory import MemoryStore
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.sqlqueue import SqlQueue
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing import makeMessage
from relay.relaysupport import Directory

HOST = "relay.example.org"
TRACE = b"Return-Path: <alice@example.org>\r\nReceived: from a by b; now\r\n"
RELAYED = b"Received: from a by b; now\r\n"
LIMIT = 20.0  # seconds until whatever is waited for must have happened
# What failed is tried again at once: the times themselves are tested with a clock at hand.
EAGER = Schedule(intervals=(timedelta(milliseconds=20),), jitter=0.0)


def now() -> datetime:
    return datetime.now(UTC)


async def until(happened: Callable[[], Any], limit: float = LIMIT) -> None:
    """Let the reactor turn until it has happened."""
    from twisted.internet import reactor

    for _ in range(round(limit / 0.01)):
        if happened():
            return
        await deferLater(reactor, 0.01)  # type: ignore[arg-type]
    raise AssertionError("it has not happened")


class Sink:
    """A server of our own on a port of its own; it keeps what it gets in memory, unless it is
    given another store."""

    def __init__(
        self,
        extensions: Sequence[IServerExtension] | None = None,
        store: Any = None,
        directory: IDirectory | None = None,
        observers: Sequence[ISessionObserver] = (),
    ) -> None:
        from twisted.internet import reactor

        self.store = MemoryStore() if store is None else store
        self._factory = SmtpServerFactory(
            self.store,
            directory or SinkDirectory(),
            reactor,  # type: ignore[arg-type]
            hostname="sink.example",
            limits=Limits(acceptBareNewlines=True, maxLine=0),
            extensions=standardExtensions() if extensions is None else extensions,
            observers=observers,
        )
        self._port: Any = reactor.listenTCP(0, self._factory, interface="127.0.0.1")  # type: ignore[attr-defined]
        self.port: int = self._port.getHost().port

    @property
    def messages(self) -> list[Message]:
        return list(self.store.messages.values())

    @property
    def contents(self) -> list[bytes]:
        return [message.content.head(1 << 30) for message in self.messages]

    async def close(self) -> None:
        await self._port.stopListening()
        await self._factory.shutdown()


def connector(
    port: Callable[[], int], helo: str = HOST
) -> Callable[[str], Deferred[EsmtpTransport]]:
    """Every domain's mail goes to this port of the machine."""
    from twisted.internet import reactor

    def transports(hop: NextHop) -> list[EsmtpTransport]:
        endpoint = TCP4ClientEndpoint(reactor, hop.address, port())
        return [
            EsmtpTransport(
                endpoint,
                reactor,  # type: ignore[arg-type]
                helo=helo,
                extensions=clientExtensions(),
                hostname=hop.host,
            )
        ]

    return Route(lambda name: succeed([NextHop(f"mx.{name}", "127.0.0.1")]), transports).connect


class World:
    """A database, a store, and as many workers as wanted; all mail goes to `port`."""

    def __init__(self, url: str, isNew: bool = True) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.url = url
        self.dialect = parseUrl(url)
        if isNew:
            upgrade(self.dialect)
        self.pool = ConnectionPool(self.dialect, reactor, 2)
        self.store = SqlStore(ConnectionPool(self.dialect, reactor, 1), self.reactor)
        self.workers: list[QueueWorker] = []
        self.port = 0

    def worker(
        self,
        name: str = "one",
        connect: Callable[[str], Deferred[Any]] | None = None,
        schedule: Schedule = EAGER,
        **limits: Any,
    ) -> QueueWorker:
        queue = SqlQueue(self.pool, name)
        reporter = Reporter(Directory(), HOST, now)
        worker = QueueWorker(
            queue,
            Delivery(queue, reporter, self.reactor, now, schedule),
            connect or connector(lambda: self.port),
            self.reactor,
            now,
            limits=RelayLimits(**{"poll": 0.05, "linger": 0.1, **limits}),
        )
        self.workers.append(worker)
        return worker

    def put(
        self, octets: bytes, *addresses: str, parameters: str = "", **fields: Any
    ) -> Awaitable[str]:
        forwards = tuple(
            Forward(address, address, parameters) for address in addresses or ("bob@x.example",)
        )
        values = {"sender": "alice@example.org", "trace": TRACE, "recipients": (), **fields}
        return self.store.store(makeMessage(octets, forwards=forwards, **values))

    def rows(self, sql: str = "SELECT state, attempts, last_reply FROM queue ORDER BY id") -> list:
        connection = self.dialect.connect()
        try:
            txn = connection.cursor()
            txn.execute(sql)
            return [tuple(row) for row in txn.fetchall()]
        finally:
            connection.close()

    def sql(self, statement: str) -> None:
        """Change something, as an operator does."""
        connection = self.dialect.connect()
        connection.cursor().execute(statement)
        connection.commit()
        connection.close()

    def states(self) -> set[str]:
        return {state for (state,) in self.rows("SELECT DISTINCT state FROM queue")}

    async def close(self) -> None:
        await gatherResults([worker.stop(5) for worker in self.workers])
        await self.store.close()
        await self.pool.close()


class SmtpSink:
    """Postfix's smtp-sink with faults of its own."""

    def __init__(self, program: str, port: int, *options: str) -> None:
        self._process = subprocess.Popen(
            [program, "-u", "nobody", *options, f"127.0.0.1:{port}", "100"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
