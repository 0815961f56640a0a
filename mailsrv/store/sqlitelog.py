"""SQLite's write-ahead log, and its way into the file (a checkpoint, SQLite calls it)."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from enum import Enum, auto
from functools import partial

_DUE = 14 << 20  # octets written; the log has some 16 MiB by then


class State(Enum):
    """How far the copying is."""

    WAITING = auto()  # for 14 MiB
    COPYING = auto()  # beside
    COPIED = auto()  # but for what came meanwhile


class WriteAheadLog:
    """Has the log copied after each 14 MiB that one connection writes; `open` makes others.

    Most of it is copied beside the next COMMITs, on a connection of its own: 1.25 times as many
    messages of 1 MiB a second. But as long as more comes meanwhile, SQLite never begins the log
    anew. So behind the first COMMIT after that the connection itself copies what is left.

    A reader stands in the log the while, so that nobody can begin it anew: an SQLite before 3.51.3
    would, where that happens just as a copy begins, count pages as copied that are not (its
    "WAL-reset bug", sqlite.org/wal.html, section 11).
    """

    def __init__(self, open: Callable[[], sqlite3.Connection]) -> None:
        self._open = open
        self._written = 0
        self._state = State.WAITING
        self._isClosed = False
        # Kept: to open one takes a dozen calls, at each of which a busy reactor has its turn.
        self._reader: sqlite3.Connection | None = None
        self._copier: sqlite3.Connection | None = None

    def wrote(self, octets: int) -> bool:
        """Take note of `octets` written; whether `copy` is due."""
        self._written += octets
        isFull = self._state is State.WAITING and self._written >= _DUE
        return isFull or self._state is State.COPIED

    def copy(self, connection: sqlite3.Connection) -> Callable[[], None] | None:
        """Copy the log in the thread of `connection`, or return what will, in another thread.

        To be called right behind a COMMIT. Raises sqlite3.Error, and so does what it returns:
        nothing is lost by that, and it is tried again.
        """
        self._written = 0
        if self._reader is None:
            self._reader = self._open()
        # Stands in the log from its first row on until it is closed.
        held = self._reader.execute("SELECT name FROM sqlite_master")
        if self._state is State.COPIED:
            self._state = State.WAITING
            with closing(held):
                _copy(connection)
            return None
        self._state = State.COPYING
        return partial(self._copyBeside, held)

    def _copyBeside(self, held: sqlite3.Cursor) -> None:
        try:
            with closing(held):
                if self._copier is None:
                    self._copier = self._open()
                _copy(self._copier)
        finally:
            self._state = State.COPIED
            if self._isClosed:
                self._close()

    def close(self) -> None:
        """Close the other connections, if need be when the copy is done."""
        self._isClosed = True
        if self._state is not State.COPYING:
            self._close()

    def _close(self) -> None:
        for connection in (self._reader, self._copier):
            if connection is not None:
                connection.close()


def _copy(connection: sqlite3.Connection) -> None:
    """PASSIVE: it waits for nobody, and copies as far as the oldest reader allows."""
    connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
