"""SQLite: one file, many readers, one writer."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from mailsrv.store.database import Connection, Dialect, Fault, Finding
from mailsrv.store.queries import Txn
from mailsrv.store.sqlitelog import WriteAheadLog

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
# Sizes as measured with batches of 32 messages of 4 KiB. SQLite's own pages of 4 KiB: of 8, each
# such message would take one of its own, and the store a fifth more CPU.
_SQLITE_SETTINGS = (
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA cache_size = -8192",  # KiB
    "PRAGMA wal_autocheckpoint = 16384",  # pages; for what nobody tidies up
    "PRAGMA journal_size_limit = 67108864",  # octets
)
_FULL = 2  # of synchronous
# SQLite's releases that mend its "WAL-reset bug" (sqlite.org/wal.html, section 11), by their line.
_MENDED = {(3, 44): 6, (3, 50): 7, (3, 51): 3}
# Gone with the machine; or without the shared memory and the locks that WAL needs.
_FORGETFUL = ("tmpfs", "ramfs", "nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs")


def _fileSystemOf(path: Path) -> str:
    """The kind of file system that `path` lies on, as Linux calls it; '' where it does not say."""
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        return ""
    device = os.stat(path if path.exists() else path.parent).st_dev
    name = f"{os.major(device)}:{os.minor(device)}"
    for line in reversed(lines):
        fields, _, rest = line.partition(" - ")
        if fields.split()[2] == name:
            return rest.split()[0]
    return ""


def _cannotOpen(why: str) -> sqlite3.OperationalError:
    """SQLite's own error, which does not say why."""
    error = sqlite3.OperationalError(why)
    error.sqlite_errorname = "SQLITE_CANTOPEN"
    return error


class _SqliteConnection(sqlite3.Connection):
    """Remembers which file it opened, and whether its log is to be copied."""

    file: tuple[int, int] | None = None
    log: WriteAheadLog

    def close(self) -> None:
        self.log.close()
        super().close()


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
        if os.path.isdir(self.path):  # unlike pathlib's, it lets no error out of a closed folder
            raise _cannotOpen("it is a folder; name a file in it")
        if create:
            self._create()
        connection = sqlite3.connect(
            f"file:{quote(str(self.path))}?mode=rw",
            uri=True,
            timeout=self._busyTimeout,
            isolation_level="IMMEDIATE",
            check_same_thread=False,
            cached_statements=256,  # an INSERT for each number of rows is one
            factory=_SqliteConnection,
        )
        connection.log = WriteAheadLog(self.connect)
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
        folder = self.path.parent
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            if not folder.is_dir():
                raise _cannotOpen(f"there is no folder {folder}; make it first")
            # One that is there must not be opened: to close it would drop this process's locks.
            with suppress(FileExistsError):
                os.close(os.open(self.path, flags, 0o600))
        except PermissionError as error:
            why = f"{error.strerror}; let the server's user write to the folder {folder}"
            raise _cannotOpen(why) from error
        except OSError as error:
            raise _cannotOpen(str(error.strerror)) from error

    def _setUpFile(self, connection: sqlite3.Connection) -> None:
        """Write-ahead logging; several that start at once wait for one another."""
        patience = time.monotonic() + self._busyTimeout
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
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

    def wrote(self, connection: Any, octets: int) -> bool:
        return bool(connection.log.wrote(octets))

    def tidyUp(self, connection: Any) -> Callable[[], None] | None:
        """Copy the log into the file, so that a next COMMIT begins it anew."""
        copying: Callable[[], None] | None = connection.log.copy(connection)
        return copying

    def durability(self, connection: Any) -> list[Finding]:
        [(synchronous,)] = connection.execute("PRAGMA synchronous").fetchall()
        kind = _fileSystemOf(self.path)
        return [
            Finding(
                "synchronous",
                synchronous,
                synchronous >= _FULL,
                "a COMMIT is kept at a power failure where each is synced",
                "set it to FULL",
            ),
            Finding(
                "file system",
                kind,
                kind not in _FORGETFUL,
                "a COMMIT is kept where files are on a disk of this machine",
                f"put {self.path} on a local disk",
            ),
        ]

    def sharing(self) -> list[Finding]:
        major, minor, release = sqlite3.sqlite_version_info
        line = (major, minor)
        isMended = line > max(_MENDED) or release >= _MENDED.get(line, release + 1)
        return [
            Finding(
                "SQLite",
                sqlite3.sqlite_version,
                isMended,
                "what several processes write at the same time is always kept from 3.51.3 on, and"
                " before it may in very rare cases be lost",
                "leave --workers at 1, use MariaDB, or install a later SQLite",
            )
        ]

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
