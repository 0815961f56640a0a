"""The ceiling of group commit: one process, one writer thread, nothing parsed, nothing checked.

    python benchmarks/prototype.py sqlite:FILE
    python benchmarks/prototype.py mysql://user:password@host:port/name

The bare server, and behind it what a 250 after the COMMIT costs at the very least: whatever
comes while one batch is committed is the next batch.
"""

from __future__ import annotations

import os
import sqlite3
import sys
import time
from collections.abc import Callable
from typing import Any

import pymysql
from twisted.enterprise.adbapi import ConnectionPool
from twisted.python import log

from bare import OK, BareSmtp, serve
from peertables import SQLITE_TABLES, mysqlArguments

MAX_MESSAGES = 256  # in a batch
MAX_OCTETS = 2 << 20

Row = tuple[int, str, bytes, list[str]]  # id, sender, content, recipients
Txn = Any


def insertSqlite(txn: Txn, rows: list[Row]) -> None:
    """One transaction for all of them; SQLite's statements cost no journey."""
    txn.executemany(
        "INSERT INTO messages (id, sender, data) VALUES (?, ?, ?)", [r[:3] for r in rows]
    )
    txn.executemany(
        "INSERT INTO recipients (message_id, address) VALUES (?, ?)",
        [(id, address) for id, _, _, recipients in rows for address in recipients],
    )


def insertMysql(txn: Txn, rows: list[Row]) -> None:
    """One statement a table."""
    pairs = [(id, address) for id, _, _, recipients in rows for address in recipients]
    txn.execute(
        "INSERT INTO messages (id, sender, data) VALUES " + ",".join(["(%s,%s,%s)"] * len(rows)),
        [value for row in rows for value in row[:3]],
    )
    txn.execute(
        "INSERT INTO recipients (message_id, address) VALUES " + ",".join(["(%s,%s)"] * len(pairs)),
        [value for pair in pairs for value in pair],
    )


class Writer:
    """Commits what waits, a batch at a time, in the one thread of its pool."""

    def __init__(self, pool: ConnectionPool, insert: Callable[[Txn, list[Row]], None]) -> None:
        self._pool = pool
        self._insert = insert
        self._waiting: list[tuple[Row, GroupCommitSmtp]] = []
        self._isBusy = False
        self._lastId = time.time_ns()

    def write(self, session: GroupCommitSmtp, sender: str, data: bytes, to: list[str]) -> None:
        """Have a message committed; the session hears of it by `stored`."""
        self._lastId += 1
        self._waiting.append(((self._lastId, sender, data, to), session))
        self._next()

    def _next(self) -> None:
        if self._isBusy or not self._waiting:
            return
        self._isBusy = True
        batch = self._take()
        done = self._pool.runInteraction(self._insert, [row for row, _ in batch])
        done.addCallbacks(self._stored, self._failed, callbackArgs=(batch,), errbackArgs=(batch,))

    def _take(self) -> list[tuple[Row, GroupCommitSmtp]]:
        octets = count = 0
        for row, _ in self._waiting[:MAX_MESSAGES]:
            octets += len(row[2])
            if count and octets > MAX_OCTETS:
                break
            count += 1
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        return batch

    def _stored(self, _: object, batch: list[tuple[Row, GroupCommitSmtp]]) -> None:
        self._isBusy = False
        self._next()  # before the answers: the database works while they go out
        for _row, session in batch:
            session.stored(OK)

    def _failed(self, reason: Any, batch: list[tuple[Row, GroupCommitSmtp]]) -> None:
        log.err(reason)
        self._isBusy = False
        self._next()
        for _row, session in batch:
            session.stored(b"451 Not stored\r\n")


class GroupCommitSmtp(BareSmtp):
    """Keeps envelope and content, and answers the end of the data after the COMMIT."""

    writer: Writer

    def command(self, verb: bytes, line: bytes) -> None:
        if verb == b"MAIL":
            self._sender = line[11:].partition(b">")[0].decode("latin-1")
            self._recipients: list[str] = []
        elif verb == b"RCPT":
            self._recipients.append(line[9:].partition(b">")[0].decode("latin-1"))
        elif verb == b"DATA":
            self._pieces = [b"\r\n"]

    def content(self, data: bytes) -> None:
        self._pieces.append(data)

    def ended(self) -> None:
        self.paused = True  # commands sent already wait for this answer
        octets = b"".join(self._pieces)
        if b"\r\n.." in octets:
            octets = octets.replace(b"\r\n..", b"\r\n.")
        self.writer.write(self, self._sender, octets[2:-3], self._recipients)

    def stored(self, reply: bytes) -> None:
        """The message is committed, or not."""
        if self.connected:
            self.say(reply)
            self.paused = False
            self.dataReceived(b"")


def setDurable(connection: sqlite3.Connection) -> None:
    """A COMMIT is on the disk when it returns."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA wal_autocheckpoint = 4096")
    connection.executescript(SQLITE_TABLES)


def openWriter(url: str) -> Writer:
    """The writer for one of the two databases."""
    one = {"cp_min": 1, "cp_max": 1}
    if url.startswith("sqlite:"):
        path = os.fspath(url.removeprefix("sqlite:"))
        pool = ConnectionPool(
            "sqlite3", path, check_same_thread=False, cp_openfun=setDurable, **one
        )
        return Writer(pool, insertSqlite)
    assert pymysql.threadsafety >= 1
    return Writer(ConnectionPool("pymysql", **mysqlArguments(url), **one), insertMysql)


if __name__ == "__main__":
    GroupCommitSmtp.writer = openWriter(sys.argv[1])
    serve(GroupCommitSmtp)
