"""The service: what `twistd smtpstore` binds, opens, starts and stops."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from functools import partial
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool

from mailsrv.announce import announceMail, announcePorts
from mailsrv.check import TablesCheck
from mailsrv.extractor import extractorIn
from mailsrv.listening import Ports
from mailsrv.logtext import useLogText
from mailsrv.monitoring import Monitoring, Received
from mailsrv.observers import LogObserver
from mailsrv.options import Options
from mailsrv.parent import Parent, inheritedSockets, shareOf
from mailsrv.process import (
    StartError,
    callWithoutLogContext,
    collectRarely,
    endLater,
    filesFor,
    keepFreedMemory,
    raiseFileLimit,
    rightsOf,
    runAs,
    stopOnce,
    tryDirectory,
    useMonotonicClock,
    workingIn,
)
from mailsrv.rules import certificateOf, extensionsOf, policiesOf
from mailsrv.sending import Sending
from mailsrv.server.factory import SmtpServerFactory
from mailsrv.server.spool import SpoolBudget
from mailsrv.settings import Settings
from mailsrv.store.credentials import PasswordVerifier, SqlPasswords
from mailsrv.store.dialect import parseUrl
from mailsrv.store.directory import SinkDirectory, SqlDirectory
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.sqlstore import SqlStore
from mailsrv.workers import Workers

__all__ = ["MailService", "Options", "makeService"]

STOP_SESSIONS = 8.0  # seconds that sessions have for their pending answers
STOP_STORE = 7.0  # then the store to say what became of the rest
STOP_POOLS = 2.0  # then the connections to close
STOP_WORKERS = 17.5  # for a worker's own three, before it is killed
STOP_AT_ALL = 19.5  # then the process ends, whatever hangs

LOOK_UP_THREADS = 2
EXTRACT_THREADS = 2

_log = Logger(namespace="smtpstore")


def makeService(options: Options) -> IService:
    """Open the database, bind every port, and return what serves them once it is started.

    Whatever does not work ends the process here, in one line on standard error. twistd is still
    what it was started as: ports are bound with the rights of root, the database is opened with
    those of `--uid`; and it has not forked yet, so no thread is started.
    """
    from twisted.internet import reactor

    twistd: Mapping[str, Any] = options.parent or {}
    try:
        if twistd.get("chroot"):
            raise StartError("twistd --chroot is not supported; run it as a user, with --uid")
        with workingIn(twistd.get("rundir") or "."):
            useMonotonicClock(reactor)
            stopOnce(reactor)
            service = _serviceFor(options, reactor)
            rights = rightsOf(twistd.get("uid"), twistd.get("gid"))
            runAs(rights, service.prepare)
            service.bind(rights)
        # A --logger is somebody else's; so is the log of a program that has us as a part.
        if twistd and not twistd.get("logger"):
            reactor.callWhenRunning(useLogText)
    except (StartError, OSError) as error:
        raise SystemExit(f"smtpstore: {error}") from None
    return service


def _serviceFor(options: Options, reactor: Any) -> MailService:
    """The whole server, or where there are several processes the parent, or one of its workers."""
    settings, inherited = options.settings, inheritedSockets(os.environ)
    if inherited is not None:
        parent = Parent(reactor, inherited)
        parent.endWithIt()
        return MailService(shareOf(settings), reactor, isAlone=True, parent=parent)
    workers = None
    if settings.workers > 1:
        twistd: Mapping[str, Any] = options.parent or {}
        isDaemon = not twistd.get("nodaemon", True)
        workers = Workers(reactor, settings.workers, options.given, os.environ, not isDaemon)
    return MailService(settings, reactor, isAlone=True, workers=workers)


class MailService(Service):
    """One SMTP server on one database: its ports, its pools, their order of start and stop.

    `prepare` and `bind` come before the start, and raise StartError. `isAlone`: the process is
    nobody else's, so that what hangs when it stops may be ended by force. `workers`: the processes
    that receive in place of this one. `parent`: this is such a process, and that started it.
    """

    name = "smtpstore"

    def __init__(
        self,
        settings: Settings,
        reactor: Any,
        isAlone: bool = False,
        parent: Parent | None = None,
        workers: Workers | None = None,
    ) -> None:
        self.settings = settings
        self._parent = parent
        self._workers = workers
        self._reactor = reactor
        self._isAlone = isAlone
        self._warnings: list[str] = []
        self._dialect = parseUrl(settings.db)
        self._dialect.requireDurable = settings.requireDurable
        pool = partial(ConnectionPool, self._dialect, reactor, timeout=settings.dbTimeout)
        self._commits = pool(self._dialect.writers, "commit")
        self._lookUps = pool(LOOK_UP_THREADS, "look-up")
        self._check = TablesCheck(self._dialect, self._lookUps, reactor)
        self._extracts = ThreadPool(0, EXTRACT_THREADS, "extract")
        self._verifier = PasswordVerifier(reactor)
        self._store = SqlStore(
            self._commits,
            reactor,
            settings.dbTimeout,
            destinations=[webhook.url for webhook in settings.webhooks],
        )
        self._tls = certificateOf(settings)
        directory = self._directory()
        tell = parent.poke if parent is not None else None
        self._sending = Sending(settings, self._dialect, reactor, directory, self._store, tell)
        self._budget = SpoolBudget(settings.spoolMemory, settings.spoolDisk)
        self._received = None if settings.http is None else Received(self._budget)
        self.factory = self._factory(directory)
        self.ports: list[IListeningPort] = []
        self._monitoring = self._makeMonitoring()

    def _factory(self, directory: SqlDirectory | SinkDirectory) -> SmtpServerFactory:
        settings, reactor = self.settings, self._reactor
        try:
            return SmtpServerFactory(
                self._store,
                directory,
                reactor,
                hostname=settings.hostname,
                limits=settings.limits,
                extensions=extensionsOf(settings, self._passwords(), reactor),
                policies=policiesOf(settings, directory.owns),
                observers=[
                    LogObserver(),
                    *self._sending.observers,
                    *([self._received.observer] if self._received is not None else []),
                ],
                budget=self._budget,
                spoolDirectory=settings.spool,
                extract=extractorIn(self._extracts, reactor),
                maxConnections=settings.maxConnections,
                maxConnectionsPerClient=settings.maxConnectionsPerClient,
                tls=self._tls,
                allowVrfy=settings.allowVrfy,
                allowExpn=settings.allowExpn,
            )
        except ValueError as error:  # two extensions claim one word
            raise StartError(str(error)) from None

    def _makeMonitoring(self) -> Monitoring | None:
        if self._received is None or self._parent is not None:
            return None
        counts = self._received.counts if self._workers is None else self._workers.tally.total
        return Monitoring(self._dialect, self._reactor, counts, lambda: self._sending.counters)

    def _directory(self) -> SqlDirectory | SinkDirectory:
        domains = self.settings.domains
        if not domains:
            return SinkDirectory()
        return SqlDirectory(self._lookUps, domains, self._reactor, self.settings.dbTimeout)

    def _passwords(self) -> SqlPasswords:
        return SqlPasswords(self._lookUps, self._verifier, self._reactor, self.settings.dbTimeout)

    # Before the start

    def prepare(self) -> None:
        """Make or upgrade the tables, and try the place for large messages."""
        self._warnings += self._check.now(self.settings.dbTimeout)
        if self._workers is not None:
            self._warnings += [str(f) for f in self._dialect.sharing() if not f.isFine]
        if self.settings.spool is not None:
            tryDirectory(self.settings.spool)

    def bind(self, owner: tuple[int, int] | None = None) -> None:
        """Listen on every endpoint; nobody is answered before the start.

        `owner`: the user and group that UNIX sockets are given to."""
        warning = raiseFileLimit(filesFor(self.settings.maxConnections))
        self._warnings += [warning] if warning else []
        ports = Ports(self.factory, self._tls, self._reactor, self._parent, owner)
        for port in self.settings.ports:
            self.ports.append(ports.open(port))
            if self._workers is not None:
                self.ports[-1].stopReading()  # type: ignore[attr-defined]
        if self._monitoring is not None and self.settings.http is not None:
            self._monitoring.bind(self.settings.http, owner)

    # Start

    def startService(self) -> None:
        super().startService()
        if self._isAlone:
            collectRarely()
            keepFreedMemory()
            callWithoutLogContext()
        self._extracts.start()
        for warning in self._warnings:
            _log.warn("{warning}", warning=warning)
        self._check.start()
        self._verifier.start()
        self._sending.start(port.getHost() for port in self.ports)
        if self._workers is not None:
            self._workers.start(self.ports, self._sending.hear)
        if self._parent is None:
            self._announce()
        elif self._received is not None:
            self._parent.report(self._received.counts)

    def _announce(self) -> None:
        addresses = [port.getHost() for port in self.ports]
        announcePorts(self.settings, addresses)
        if self._monitoring is not None:
            self._monitoring.announce()
        self._sending.announce()
        announceMail(self.settings, self._dialect.describe(), addresses)

    # Stop

    def stopService(self) -> Deferred[None]:
        """End within 20 seconds, in this order: ports, sessions, what waits for its COMMIT, pools.

        What has been received whole gets its true answer first; who is idle gets 421.
        """
        super().stopService()
        self._check.stop()
        if self._isAlone:
            # An impatient second signal would only leave a traceback in the log.
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_IGN)
            endLater(STOP_AT_ALL)
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        closing = [maybeDeferred(port.stopListening) for port in self.ports]
        if self._monitoring is not None:
            closing.append(self._monitoring.stop())
        await gatherResults(closing)
        gone = [
            self._atMost(STOP_SESSIONS, self.factory.shutdown()),
            self._atMost(STOP_SESSIONS, self._sending.stop(STOP_SESSIONS - 1.0)),
        ]
        if self._workers is not None:
            gone.append(self._atMost(STOP_WORKERS, self._workers.stop(STOP_WORKERS)))
        await gatherResults(gone)
        # What is still not committed is withdrawn now, and its sessions get 421.
        await self._atMost(STOP_STORE, self._store.close(STOP_STORE - STOP_POOLS))
        closed = [self._lookUps.close(STOP_POOLS), self._sending.close(STOP_POOLS)]
        if self._monitoring is not None:
            closed.append(self._monitoring.close(STOP_POOLS))
        await self._atMost(STOP_POOLS, gatherResults(closed))
        if self._extracts.started:
            self._extracts.stop()
        self._verifier.stop()
        if self._parent is not None:
            self._parent.stop()
        _log.info("Stopped")

    def _atMost(self, seconds: float, done: Deferred[Any]) -> Deferred[None]:
        """Fires when `done` does, and at the latest in so many seconds; never fails."""
        over: Deferred[None] = Deferred()
        timer = self._reactor.callLater(seconds, over.callback, None)

        def finished(_: object) -> None:
            if timer.active():
                timer.cancel()
                over.callback(None)

        done.addErrback(lambda failure: _log.failure("Error while stopping", failure))
        done.addCallback(finished)
        return over
