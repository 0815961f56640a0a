"""Dialects: what differs between the databases, and nothing more."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from enum import Enum, auto
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from mailsrv.store.queries import Txn


class Connection(Protocol):
    """A DB-API connection whose cursors take `?` for parameters."""

    def cursor(self) -> Txn:
        """A new cursor; a transaction begins with its first writing statement."""

    def commit(self) -> None:
        """Make what was written last."""

    def rollback(self) -> None:
        """Undo what was written since the last commit."""

    def close(self) -> None:
        """Close the connection; what was not committed is undone."""


class Fault(Enum):
    """What is wrong with the database, and so what becomes of the mail."""

    TRANSIENT = auto()  # the same again may well succeed
    UNAVAILABLE = auto()  # it is down, refuses, or cannot be read
    FULL = auto()  # it has no room
    TABLES = auto()  # they are missing, or not ours
    DUPLICATE = auto()  # the row is there already
    OTHER = auto()  # it does not like what it was given


class NotDurable(Exception):
    """The database is not set to keep what it commits, and that was asked of it."""


class Dialect:
    """One database of one kind: how to reach it, and what its errors mean.

    It holds no connection. `driver` is the DB-API module, `schema` the folder of its tables'
    SQL; `upgradesItself` tells whether the server may change the tables at its start;
    `commitsDdl`, whether each statement that changes tables is committed by itself;
    `lockingRead` follows a SELECT that must wait for writers. `requireDurable`: connect only
    where nothing is weak.
    """

    name = ""
    driver = ""
    schema = ""
    upgradesItself = False
    writers = 1  # transactions that may write at once; MySQL: one for the large messages
    commitsDdl = False
    lockingRead = ""
    requireDurable = False

    def describe(self) -> str:
        """Where mail goes, for people; no password."""
        raise NotImplementedError

    def connect(self, create: bool = False, limit: float | None = None) -> Connection:
        """A new connection; only with `create` a database that is not there is made.

        `limit`: seconds that it and all it is used for may take, where they can be limited;
        None: as long as it takes.
        """
        raise NotImplementedError

    def limit(self, connection: Any, seconds: float) -> None:
        """Have the connection give up what takes longer from now on, where it can."""

    def moveOn(self, connection: Any) -> None:
        """The connection was lost: of several hosts, the next one is asked first now."""

    def isStale(self, connection: Any) -> bool:
        """Whether a connection, unused for a while, leads nowhere; quick, asks no server."""
        return False

    def isLost(self, error: BaseException) -> bool:
        """Whether the connection that failed with `error` must not be used again."""
        return self.classify(error) is Fault.UNAVAILABLE

    def isMistaken(self, error: BaseException) -> bool:
        """Whether a connection failed for what the URL says, which no waiting mends."""
        return False

    def classify(self, error: BaseException) -> Fault:
        """The fault behind what the driver raised."""
        raise NotImplementedError

    def weaknesses(self, connection: Any) -> list[str]:
        """Why what is committed may still be lost, each with how to mend it; none: it is kept."""
        return []

    def lockedForUpgrade(self, connection: Connection) -> AbstractContextManager[Txn]:
        """A transaction in which nobody else upgrades the tables; committed at the end."""
        raise NotImplementedError


_SQLITE_FAULTS = {
    "SQLITE_BUSY": Fault.TRANSIENT,
    "SQLITE_LOCKED": Fault.TRANSIENT,
    "SQLITE_PROTOCOL": Fault.TRANSIENT,
    "SQLITE_SCHEMA": Fault.TRANSIENT,
    "SQLITE_FULL": Fault.FULL,
    "SQLITE_IOERR_SHMSIZE": Fault.FULL,
    "SQLITE_IOERR": Fault.UNAVAILABLE,
    "SQLITE_CANTOPEN": Fault.UNAVAILABLE,
    "SQLITE_NOTADB": Fault.UNAVAILABLE,
    "SQLITE_CORRUPT": Fault.UNAVAILABLE,
    "SQLITE_READONLY": Fault.UNAVAILABLE,
    "SQLITE_PERM": Fault.UNAVAILABLE,
    "SQLITE_AUTH": Fault.UNAVAILABLE,
    "SQLITE_NOMEM": Fault.UNAVAILABLE,
    "SQLITE_CONSTRAINT_PRIMARYKEY": Fault.DUPLICATE,
    "SQLITE_CONSTRAINT_UNIQUE": Fault.DUPLICATE,
}
_SQLITE_NO_TABLES = ("no such table", "no such column", "has no column named")
# Sizes as measured with batches of 64 messages of 4 KiB.
_SQLITE_FILE_SETTINGS = (
    "PRAGMA page_size = 8192",
    "PRAGMA journal_mode = WAL",
)
_SQLITE_SETTINGS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -8192",  # KiB
    "PRAGMA wal_autocheckpoint = 2048",  # pages
    "PRAGMA journal_size_limit = 67108864",  # octets
)


class _SqliteConnection(sqlite3.Connection):
    """Remembers which file it opened."""

    file: tuple[int, int] | None = None


class SqliteDialect(Dialect):
    """One SQLite file; a group of writing statements is one BEGIN IMMEDIATE … COMMIT."""

    name = "SQLite"
    driver = "sqlite3"
    schema = "sqlite"
    upgradesItself = True

    def __init__(self, path: str | os.PathLike[str], busyTimeout: float = 5.0) -> None:
        # twistd changes directory between the first connection and the others.
        self.path = Path(path).absolute()
        self._busyTimeout = busyTimeout

    def describe(self) -> str:
        return f"SQLite file {self.path}"

    def connect(self, create: bool = False, limit: float | None = None) -> sqlite3.Connection:
        if create:
            self._create()
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw",
            uri=True,
            timeout=self._busyTimeout,
            isolation_level="IMMEDIATE",
            check_same_thread=False,
            factory=_SqliteConnection,
        )
        try:
            connection.file = self._fileId()
            if create:
                self._setUpFile(connection)
            for setting in _SQLITE_SETTINGS:
                connection.execute(setting)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self) -> None:
        """Make the file; SQLite gives its -wal and -shm files the same mode."""
        # One that is there must not be opened here: to close it would drop this process's locks.
        with suppress(FileExistsError):
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))

    def _setUpFile(self, connection: sqlite3.Connection) -> None:
        """Write-ahead logging; several that start at once wait for one another."""
        patience = time.monotonic() + self._busyTimeout
        while True:
            try:
                for setting in _SQLITE_FILE_SETTINGS:
                    connection.execute(setting)
                return
            except sqlite3.OperationalError as error:
                # SQLite itself does not wait here.
                isBusy = self.classify(error) is Fault.TRANSIENT
                if not isBusy or time.monotonic() >= patience:
                    raise
                time.sleep(0.01)

    def _fileId(self) -> tuple[int, int] | None:
        try:
            status = os.stat(self.path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def isStale(self, connection: Any) -> bool:
        """Whether the file was removed or replaced: SQLite would write on into the old one."""
        return bool(connection.file != self._fileId())

    def classify(self, error: BaseException) -> Fault:
        name = getattr(error, "sqlite_errorname", "")
        fault = _SQLITE_FAULTS.get(name) or _SQLITE_FAULTS.get("_".join(name.split("_")[:2]))
        if name == "SQLITE_ERROR" and any(text in str(error) for text in _SQLITE_NO_TABLES):
            return Fault.TABLES
        return fault or Fault.OTHER

    @contextmanager
    def lockedForUpgrade(self, connection: Connection) -> Iterator[Txn]:
        txn = connection.cursor()
        txn.execute("BEGIN IMMEDIATE")
        try:
            yield txn
        except BaseException:
            connection.rollback()
            raise
        connection.commit()


def _sqlite(rest: str) -> Dialect:
    if not rest or rest.startswith((":", "//")) or "\0" in rest:
        raise ValueError(
            "the database URL names no SQLite file; write sqlite:PATH, as in sqlite:smtpstore.db"
            " or sqlite:/var/lib/smtpstore/mail.db"
        )
    return SqliteDialect(rest)


def _mysql(rest: str) -> Dialect:
    try:
        # Only who uses it needs its driver.
        from mailsrv.store.mysql import mysql
    except ImportError as error:
        raise ValueError(
            f"{error.name} is missing, which mysql: needs; run: pip install 'smtpstore[mysql]'"
        ) from None
    return mysql(rest)


_SCHEMES: dict[str, Callable[[str], Dialect]] = {"sqlite": _sqlite, "mysql": _mysql}


def parseUrl(url: str) -> Dialect:
    """The dialect for `sqlite:PATH` or `mysql://user:password@host:port/name`.

    Raises ValueError with one line that says what is wrong and how to mend it; as a URL may
    hold a password, that line never repeats it.
    """
    scheme, colon, rest = url.partition(":")
    make = _SCHEMES.get(scheme.lower()) if colon else None
    if make is None:
        raise ValueError(
            "the database URL begins with none of "
            + ", ".join(f"{known}:" for known in _SCHEMES)
            + "; write sqlite:PATH, as in sqlite:smtpstore.db, or"
            " mysql://user:password@host:port/name"
        )
    return make(rest)
