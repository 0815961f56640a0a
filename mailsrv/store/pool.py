"""The pool: adbapi over one dialect, with the manners adbapi lacks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, Concatenate, ParamSpec, TypeVar

from twisted.enterprise import adbapi
from twisted.internet.defer import Deferred, fail
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailsrv.smtp.errors import Unavailable
from mailsrv.store.dialect import Connection, Dialect

_LEAST = 0.1  # seconds that are worth another attempt

_log = Logger(namespace="smtpstore")

P = ParamSpec("P")
T = TypeVar("T")


class _DaemonThread(threading.Thread):
    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw, daemon=True)


class OutcomeUnknown(Exception):
    """The connection was lost in COMMIT: nobody here knows whether it happened."""


class ConnectionPool(adbapi.ConnectionPool):
    """`threads` connections to one database, each in a thread of its own.

    It connects when asked, never makes a database, and gives up dead connections quietly; a
    connection that had died unnoticed is replaced and the work done again, once, so an
    interaction may run twice. What it runs fails with what the driver raised, with
    OutcomeUnknown, or with Unavailable where it is closed, `maxQueued` wait already, or the
    database is known to be down (`isDown`) and somebody else is finding out whether it still is.

    `timeout`: seconds after which a thread gives up a database that hangs.
    """

    def __init__(
        self,
        dialect: Dialect,
        reactor: Any,
        threads: int,
        name: str = "db",
        maxQueued: int = 1000,
        timeout: float = 30.0,
    ) -> None:
        super().__init__(dialect.driver, cp_reactor=reactor, cp_min=1, cp_max=threads, cp_name=name)
        self.dialect = dialect
        self.threads = threads
        self.maxQueued = maxQueued
        self.timeout = timeout
        self.isDown = False
        self.outstanding = 0
        self.closed = False
        self._idle: list[Deferred[None]] = []

    def start(self) -> None:
        """Called by adbapi as soon as the reactor runs."""
        self.threadpool.name = self.name
        # A thread that hangs in the driver must not keep the process from ending.
        self.threadpool.threadFactory = _DaemonThread
        super().start()

    # In the reactor

    def runInteraction(
        self,
        interaction: Callable[Concatenate[Any, P], T],
        *args: P.args,
        **kw: P.kwargs,
    ) -> Deferred[T]:
        """Run `interaction(txn, …)` in a transaction; fires with its result after the COMMIT."""
        return self._submit(partial(self._interact, interaction, args, kw), self._soon())

    def runInteractionBy(
        self,
        deadline: float,
        octets: int,
        interaction: Callable[Concatenate[Any, P], T],
        *args: P.args,
        **kw: P.kwargs,
    ) -> Deferred[T]:
        """The same, given up at `deadline`, by the reactor's clock, where the database hangs.

        `octets`: about how many it writes; when there are enough of them, the database is
        tidied up after the answer."""
        return self._submit(partial(self._interact, interaction, args, kw), deadline, octets)

    def runWithConnection(
        self, func: Callable[Concatenate[Any, P], T], *args: P.args, **kw: P.kwargs
    ) -> Deferred[T]:
        """The same with the connection in place of a cursor."""
        return self._submit(lambda connection: func(connection, *args, **kw), self._soon())

    def _soon(self) -> float:
        return float(self._reactor.seconds()) + self.timeout

    @property
    def isProbing(self) -> bool:
        """Whether the database is known to be down, and somebody is asking it already."""
        return self.isDown and self.outstanding > 0

    def _submit(
        self, work: Callable[[Connection], T], deadline: float, octets: int = 0
    ) -> Deferred[T]:
        if self.closed:
            return fail(Unavailable("the connection pool is closed"))
        if self.isProbing:
            return fail(Unavailable("the database is down"))
        if self.outstanding >= self.maxQueued:
            return fail(Unavailable("too many queries are waiting for the database"))
        self.outstanding += 1
        answer: Deferred[T] = Deferred()
        # Who cancels `answer` does not end the thread.
        over = partial(self._over, answer, octets)
        self.threadpool.callInThreadWithCallback(over, self._work, work, deadline)
        return answer

    def _answer(self, answer: Deferred[T], result: T | Failure, isFree: bool) -> None:
        self.outstanding -= isFree
        answer.callback(result)
        if isFree:
            self._checkIdle()

    def _free(self) -> None:
        self.outstanding -= 1
        self._checkIdle()

    def _checkIdle(self) -> None:
        if not self.outstanding:
            idle, self._idle = self._idle, []
            for waiting in idle:
                waiting.callback(None)

    def close(self, limit: float = 2.0) -> Deferred[None]:
        """Take no more work, wait for what runs, close; a thread that still hangs after `limit`
        seconds is left to itself."""
        self.closed = True
        over: Deferred[None] = Deferred()
        if self.outstanding and self.running:
            over.addTimeout(limit, self._reactor, onTimeoutCancel=lambda *_: None)
            self._idle.append(over)
        else:
            over.callback(None)
        return over.addCallback(lambda _: adbapi.ConnectionPool.close(self))

    def finalClose(self) -> None:
        """Close, at the latest when the reactor stops, without waiting for a thread that hangs."""
        self.closed = True
        if self.threadpool.joined:
            return
        if self.outstanding and self.running:
            self.shutdownID = None
            self.running = False
        else:
            super().finalClose()

    # In a thread

    def _work(self, work: Callable[[Connection], T], deadline: float) -> T:
        try:
            result = self._tryTwice(work, deadline)
        except Exception as error:
            self.isDown = isinstance(error, OutcomeUnknown) or self.dialect.isLost(error)
            raise
        self.isDown = False
        return result

    def _over(self, answer: Deferred[T], octets: int, isDone: bool, result: T | Failure) -> None:
        """Answer, then tidy up where it is time to, so that nobody waits for that.

        On SQLite 1.05 times as many messages of 4 KiB a second.
        """
        connection = self.connections.get(self.threadID()) if isDone and octets else None
        isTime = connection is not None and self.dialect.wrote(connection, octets)
        self._reactor.callFromThread(self._answer, answer, result, not isTime)
        if isTime:
            self._tidyUp(partial(self.dialect.tidyUp, connection))

    def _tidyUp(self, work: Callable[[], Callable[[], None] | None]) -> None:
        """Do `work`, and have what it returns done beside the transactions of this thread."""
        try:
            beside = work()
            if beside is not None:
                self._reactor.callFromThread(self._reactor.callInThread, self._tidyUp, beside)
                return
        except Exception as error:
            self._reactor.callFromThread(
                _log.warn,
                "{where} could not tidy up, no mail is lost by it: {error}",
                where=self.dialect.describe(),
                error=error,
            )
        self._reactor.callFromThread(self._free)

    def _tryTwice(self, work: Callable[[Connection], T], deadline: float) -> T:
        isFresh = self.threadID() not in self.connections
        try:
            return self._attempt(work, deadline)
        except OutcomeUnknown:
            raise
        except Exception as error:
            isTimeLeft = deadline - self._reactor.seconds() > _LEAST
            if isFresh or not isTimeLeft or not self.dialect.isLost(error):
                raise
        return self._attempt(work, deadline)

    def _attempt(self, work: Callable[[Connection], T], deadline: float) -> T:
        connection = self.connect(max(0.0, deadline - self._reactor.seconds()))
        try:
            result = work(connection)
        except BaseException as error:
            self._rollback(connection, error)
            raise
        try:
            connection.commit()
        except BaseException as error:
            self._rollback(connection, error)
            if self.dialect.isLost(error):
                raise OutcomeUnknown(str(error)) from error
            raise
        return result

    @staticmethod
    def _interact(interaction: Callable[..., T], args: Any, kw: Any, connection: Connection) -> T:
        txn = connection.cursor()
        try:
            return interaction(txn, *args, **kw)
        finally:
            with suppress(Exception):
                txn.close()

    def _rollback(self, connection: Connection, error: BaseException) -> None:
        if not self.dialect.isLost(error):
            try:
                connection.rollback()
                return
            except Exception:  # noqa: S110 - a connection that cannot roll back is given up
                pass
        self.dialect.moveOn(connection)
        self.disconnect(connection)

    def connect(self, limit: float | None = None) -> Connection:
        """This thread's connection, for work that may take `limit` seconds."""
        connection: Connection | None = self.connections.get(self.threadID())
        if connection is not None and self.dialect.isStale(connection):
            self.disconnect(connection)
            connection = None
        if connection is None:
            connection = self.dialect.connect(limit=limit)
            self.connections[self.threadID()] = connection
        elif limit is not None:
            self.dialect.limit(connection, limit)
        return connection

    def _close(self, connection: Connection) -> None:
        with suppress(Exception):
            connection.close()
