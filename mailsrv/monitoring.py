"""What --http answers: the metrics of a server, of all its parts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger

from mailsrv.announce import showAddress
from mailsrv.process import StartError, listen
from mailsrv.relay.counters import Counters
from mailsrv.server.spool import SpoolBudget
from mailsrv.store.dialect import Dialect
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.queries.backlog import Backlog, backlogTxn
from mailsrv.web.lately import Lately
from mailsrv.web.metrics import Values, receivingValues
from mailsrv.web.receiving import CountObserver, Counts

PATIENCE = 5.0  # seconds that a look into the database may take

_log = Logger(namespace="smtpstore")


class Received:
    """What the sessions of this process did, and what its spools hold."""

    def __init__(self, budget: SpoolBudget) -> None:
        self.observer = CountObserver()
        self._budget = budget

    def counts(self) -> Counts:
        """As of now."""
        memory, disk = self._budget.memory, self._budget.disk
        return replace(
            self.observer.counts,
            memory=memory.held,
            disk=disk.held,
            memoryLimit=memory.limit,
            diskLimit=disk.limit,
        )


class Monitoring:
    """The port of `--http`, and who is asked when somebody comes there.

    `receiving`, `sending`: what was counted so far; None: this server does not relay. Owns a pool
    of one connection, so that it stands in nobody's way. Raises StartError without the client
    library of Prometheus.
    """

    def __init__(
        self,
        dialect: Dialect,
        reactor: Any,
        receiving: Callable[[], Counts],
        sending: Callable[[], Counters | None],
    ) -> None:
        try:
            from mailsrv.web.site import MetricsSite
        except ImportError:
            raise StartError(
                "--http needs prometheus-client: pip install 'smtpstore[web]'"
            ) from None
        self._reactor = reactor
        self._receiving = receiving
        self._sending = sending
        self._pool = ConnectionPool(dialect, reactor, 1, "metrics", timeout=PATIENCE)
        self._backlog = Lately(lambda: self._pool.runInteraction(backlogTxn), reactor)
        self._site = MetricsSite(self.values, reactor)
        self._port: IListeningPort | None = None

    def bind(self, endpoint: str, owner: tuple[int, int] | None = None) -> None:
        """Listen on a server endpoint; raises StartError."""
        self._port = listen(self._reactor, endpoint, self._site, owner)

    def announce(self) -> None:
        """Say in the log where it listens."""
        if self._port is not None:
            address = showAddress(self._port.getHost())
            _log.info("HTTP listens on {address}; metrics: /metrics", address=address)

    async def values(self) -> list[Values]:
        """What there is to say; the database has a few seconds."""
        backlog = await self._backlog.get()
        sending = self._sending()
        return [
            receivingValues(self._receiving()),
            {} if sending is None else _sendingValues(sending),
            _backlogValues(backlog, datetime.now(UTC)),
        ]

    def stop(self) -> Deferred[Any]:
        """Answer nobody any more."""
        self._site.close()
        return succeed(None) if self._port is None else maybeDeferred(self._port.stopListening)

    def close(self, limit: float) -> Deferred[None]:
        """Close the pool."""
        return self._pool.close(limit)


def _sendingValues(counters: Counters) -> Values:
    return {
        "smtpstore_relay_attempts_total": {
            "sent": counters.sent,
            "deferred": counters.deferred,
            "failed": counters.failed,
        },
        "smtpstore_relay_reports_total": counters.reports,
        "smtpstore_relay_connections": counters.connections,
        "smtpstore_relay_held": counters.held,
    }


def _backlogValues(backlog: Backlog | None, now: datetime) -> Values:
    """Without the database, only that it is down."""
    if backlog is None:
        return {"smtpstore_database_up": 0}

    def age(since: datetime | None) -> float:
        return 0.0 if since is None else max(0.0, (now - since).total_seconds())

    return {
        "smtpstore_database_up": 1,
        "smtpstore_queue_addresses": backlog.queue,
        "smtpstore_queue_oldest_seconds": age(backlog.queuedSince),
        "smtpstore_events": backlog.events,
        "smtpstore_events_oldest_seconds": age(backlog.putUpSince),
    }
