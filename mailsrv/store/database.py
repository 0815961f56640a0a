"""What a database is to this program, whatever its kind: its dialect, its faults."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

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


@dataclass(frozen=True, slots=True)
class Finding:
    """A look at how a database is set: `promise` says what hangs on it, `mend` what to do about
    it where it is not `isFine`."""

    name: str
    value: object
    isFine: bool
    promise: str
    mend: str

    def __str__(self) -> str:
        return f"{self.name} is {self.value}, but {self.promise}: {self.mend}"


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
    writers = 1  # transactions that may write at once; MySQL: some for the large messages
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

    def pipelined(self, txn: Txn) -> AbstractContextManager[None]:
        """Within, an INSERT may be sent before the one ahead of it is answered; what it fails with
        is raised by another statement, or at the end."""
        return nullcontext()

    def limit(self, connection: Any, seconds: float) -> None:
        """Have the connection give up what takes longer from now on, where it can."""

    def moveOn(self, connection: Any) -> None:
        """The connection was lost: of several hosts, the next one is asked first now."""

    def isStale(self, connection: Any) -> bool:
        """Whether a connection, unused for a while, leads nowhere; quick, asks no server."""
        return False

    def wrote(self, connection: Any, octets: int) -> bool:
        """Take note of some `octets` that were written; whether `tidyUp` is due by that."""
        return False

    def tidyUp(self, connection: Any) -> Callable[[], None] | None:
        """What a database does now and then, right behind a COMMIT, and nobody should wait for.

        Returns what is to be done beside the next ones, in another thread, or None.
        """
        return None

    def isLost(self, error: BaseException) -> bool:
        """Whether the connection that failed with `error` must not be used again."""
        return self.classify(error) is Fault.UNAVAILABLE

    def isMistaken(self, error: BaseException) -> bool:
        """Whether a connection failed for what the URL says, which no waiting mends."""
        return False

    def classify(self, error: BaseException) -> Fault:
        """The fault behind what the driver raised."""
        raise NotImplementedError

    def durability(self, connection: Any) -> list[Finding]:
        """Whether what is committed is kept when the machine fails."""
        return []

    def sharing(self) -> list[Finding]:
        """Whether what several processes commit at the same time is kept."""
        return []

    def lockedForUpgrade(self, connection: Connection) -> AbstractContextManager[Txn]:
        """A transaction in which nobody else upgrades the tables; committed at the end."""
        raise NotImplementedError
