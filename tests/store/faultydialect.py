"""SQLite with faults on order, and a pool without threads: for tests that must not race."""

from __future__ import annotations

import sqlite3
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, execute
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.smtp.message import Message
from mailsrv.store.dialect import Fault, SqliteDialect
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing import readMessage


class Lost(Exception):
    """The connection to the database is lost."""


class FaultyConnection:
    """A connection that runs `atCommit` in place of its commit, once for each that is given."""

    def __init__(self, dialect: FaultyDialect, connection: sqlite3.Connection) -> None:
        self._dialect = dialect
        self.connection = connection

    def commit(self) -> None:
        if self._dialect.atCommit:
            self._dialect.atCommit.pop(0)(self.connection)
        else:
            self.connection.commit()

    def rollback(self) -> None:
        if self._dialect.failsToRollBack:
            raise Lost("rollback")
        self.connection.rollback()

    def close(self) -> None:
        self.connection.close()
        if self._dialect.failsToRollBack:
            raise Lost("close")

    def cursor(self) -> Any:
        if self._dialect.atCursor:
            self._dialect.atCursor.pop(0)(self.connection)
        return self.connection.cursor()


class FaultyDialect(SqliteDialect):
    """`atConnect`, `atCursor`, `atCommit`: what to do in place of, or before, each next one."""

    lockingRead = ""

    def __init__(self, path: Path) -> None:
        super().__init__(path, busyTimeout=0)
        self.atConnect: list[Callable[[], None]] = []
        self.atCursor: list[Callable[[sqlite3.Connection], None]] = []
        self.atCommit: list[Callable[[sqlite3.Connection], None]] = []
        self.failsToRollBack = False
        self.connections = 0
        upgrade(SqliteDialect(path))

    def connect(self, create: bool = False, limit: float | None = None) -> Any:
        if self.atConnect:
            self.atConnect.pop(0)()
        self.connections += 1
        return FaultyConnection(self, super().connect(create))

    def isStale(self, connection: Any) -> bool:
        return super().isStale(connection.connection)

    def isLost(self, error: BaseException) -> bool:
        return isinstance(error, Lost) or super().isLost(error)

    def classify(self, error: BaseException) -> Fault:
        return Fault.UNAVAILABLE if isinstance(error, Lost) else super().classify(error)


def lose(*_: object) -> None:
    """The connection dies before the database heard of it."""
    raise Lost("server has gone away")


def commitAndLose(connection: sqlite3.Connection) -> None:
    """The connection dies between the COMMIT and its answer."""
    connection.commit()
    raise Lost("server has gone away")


class InlinePool(ConnectionPool):
    """Runs everything at once, in the thread that asks."""

    def __init__(self, dialect: SqliteDialect) -> None:
        super().__init__(dialect, MemoryReactorClock(), 1)

    def _submit(
        self, work: Callable[[Any], Any], deadline: float, octets: int = 0
    ) -> Deferred[Any]:
        if self.closed:
            return super()._submit(work, deadline)
        return execute(self._work, work, deadline)


class FaultyStoreCase(SynchronousTestCase):
    """A store over a FaultyDialect in a folder of its own, and what it logs."""

    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "mail.db"
        self.dialect = FaultyDialect(self.path)
        self.pool = InlinePool(self.dialect)
        self.addCleanup(self.pool.finalClose)
        self.clock = Clock()
        self.events: list[Any] = []
        log = Logger(observer=self.events.append)  # type: ignore[arg-type]
        self.sqlStore = SqlStore(self.pool, self.clock, 30.0, log)

    @property
    def logged(self) -> list[str]:
        return [f"{event['log_level'].name} {formatEvent(event)}" for event in self.events]

    def store(self, message: Message) -> Deferred[str]:
        """Give a message to the store, and come to the end of the reactor's turn."""
        answer = self.sqlStore.store(message)
        self.clock.advance(0)
        return answer

    def isThere(self, message: Message) -> bool:
        return readMessage(SqliteDialect(self.path), message.id) is not None
