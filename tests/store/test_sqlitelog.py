"""SQLite's log on its way into the file: who copies it, when, and what it may not do meanwhile."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from mailsrv.store.dialect import SqliteDialect
from mailsrv.store.migrate import upgrade
from mailsrv.store.sqlitelog import WriteAheadLog

MIB = 1 << 20
PAGE = 4096


class Writer:
    """A connection that writes, and what can be told of its log from outside."""

    def __init__(self, path: Path) -> None:
        self._dialect = SqliteDialect(path)
        self._path = path
        self.opened: list[sqlite3.Connection] = []
        self.connection = self._dialect.connect()
        self.log = WriteAheadLog(self.open)

    def open(self) -> sqlite3.Connection:
        connection = self._dialect.connect()
        self.opened.append(connection)
        return connection

    def write(self, octets: int) -> bool:
        """Commit a row of `octets`; whether the log is to be copied now."""
        self.connection.execute(
            "INSERT INTO messages (id, received_at, sender, size, protocol, peer, helo,"
            " parameters, sha256, trace, data)"
            " VALUES (hex(randomblob(13)), '', '', 0, '', '', '', '', '', '', zeroblob(?))",
            (octets,),
        )
        self.connection.commit()
        return self.log.wrote(octets)

    def beginCopy(self) -> Callable[[], None]:
        """Have the log copied beside; what does it."""
        work = self.log.copy(self.connection)
        assert work is not None
        return work

    def failToCopy(self) -> None:
        """Have 14 MiB of log copied beside, for which no connection is to be had."""
        self.write(14 * MIB)
        work = self.beginCopy()
        self.log._open = lambda: sqlite3.connect("/nowhere/at/all")
        with pytest.raises(sqlite3.OperationalError):
            work()

    def copyElsewhere(self) -> tuple[int, int]:
        """Copy the log from outside; how many pages it has, and how many of them are copied."""
        with closing(self._dialect.connect()) as other:
            [(_, pages, copied)] = other.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        return pages, copied

    def size(self) -> int:
        return self._path.stat().st_size

    def count(self) -> int:
        [(count,)] = self.connection.execute("SELECT count(*) FROM messages").fetchall()
        return int(count)

    def isEveryOtherClosed(self) -> bool:
        return all(_isClosed(connection) for connection in self.opened)


def _isClosed(connection: sqlite3.Connection) -> bool:
    try:
        connection.execute("SELECT 1")
    except sqlite3.ProgrammingError:
        return True
    return False


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Writer]:
    upgrade(SqliteDialect(tmp_path / "mail.db"))
    writer = Writer(tmp_path / "mail.db")
    yield writer
    writer.log.close()
    writer.connection.close()


def test_the_log_is_copied_after_14_mib(writer: Writer) -> None:
    empty = writer.size()
    assert not any(writer.write(MIB) for _ in range(13))
    assert writer.size() == empty
    assert writer.write(MIB)
    work = writer.beginCopy()
    assert writer.size() == empty
    work()
    assert writer.size() > 14 * MIB


def test_nobody_is_asked_to_copy_while_somebody_does(writer: Writer) -> None:
    assert writer.write(14 * MIB)
    work = writer.beginCopy()
    assert not writer.write(14 * MIB)
    work()
    assert writer.write(1)


def test_what_came_meanwhile_is_copied_behind_the_next_commit_and_the_log_begins_anew(
    writer: Writer,
) -> None:
    writer.write(14 * MIB)
    work = writer.beginCopy()
    writer.write(MIB)
    work()
    before = writer.size()
    assert writer.write(1)
    assert writer.log.copy(writer.connection) is None
    assert writer.size() > before
    assert not writer.write(1)
    pages, _ = writer.copyElsewhere()
    assert pages < MIB / PAGE
    assert writer.count() == 4


def test_the_connections_are_kept_and_closed_with_it(writer: Writer) -> None:
    for _ in range(2):
        writer.write(14 * MIB)
        work = writer.beginCopy()
        work()
        writer.write(1)
        assert writer.log.copy(writer.connection) is None
    assert len(writer.opened) == 2
    assert not writer.isEveryOtherClosed()
    writer.log.close()
    assert writer.isEveryOtherClosed()


def test_a_copy_under_way_is_done_before_the_connections_are_closed(writer: Writer) -> None:
    empty = writer.size()
    writer.write(14 * MIB)
    work = writer.beginCopy()
    writer.log.close()
    assert not writer.isEveryOtherClosed()
    work()
    assert writer.size() > empty + 14 * MIB
    assert writer.isEveryOtherClosed()


def test_nobody_begins_the_log_anew_until_it_is_copied_beside(writer: Writer) -> None:
    """What an SQLite before 3.51.3 may lose mail by."""
    writer.write(14 * MIB)
    work = writer.beginCopy()
    pages = writer.copyElsewhere()
    assert pages[0] == pages[1]
    writer.write(1)
    assert writer.copyElsewhere()[0] > pages[0]
    work()
    writer.copyElsewhere()
    writer.write(1)
    assert writer.copyElsewhere()[0] < pages[0]


class Interrupted:
    """A connection before whose next statement something else happens."""

    def __init__(self, connection: sqlite3.Connection, before: Callable[[], None]) -> None:
        self._connection = connection
        self._before = before

    def execute(self, sql: str) -> sqlite3.Cursor:
        self._before()
        return self._connection.execute(sql)


def test_nobody_begins_the_log_anew_while_the_rest_is_copied(writer: Writer) -> None:
    writer.write(14 * MIB)
    work = writer.beginCopy()
    work()
    writer.write(MIB)
    grown = []

    def interrupt() -> None:
        pages = writer.copyElsewhere()
        assert pages[0] == pages[1]
        writer.write(1)
        grown.append(writer.copyElsewhere()[0] > pages[0])

    connection: Any = Interrupted(writer.connection, interrupt)
    assert writer.log.copy(connection) is None
    assert grown == [True]
    assert writer.count() == 3


def test_a_copy_that_fails_lets_go_of_the_log(writer: Writer) -> None:
    writer.failToCopy()
    pages, copied = writer.copyElsewhere()
    assert pages == copied
    writer.write(1)
    assert writer.copyElsewhere()[0] < pages


def test_after_a_copy_that_failed_the_next_one_is_made_at_once(writer: Writer) -> None:
    empty = writer.size()
    writer.failToCopy()
    assert writer.write(1)
    assert writer.log.copy(writer.connection) is None
    assert writer.size() > empty + 14 * MIB


def test_a_reader_that_cannot_be_had_is_asked_for_later(writer: Writer) -> None:
    writer.write(14 * MIB)
    writer.log._open = lambda: sqlite3.connect("/nowhere/at/all")
    with pytest.raises(sqlite3.OperationalError):
        writer.log.copy(writer.connection)
    assert not writer.write(1)
    writer.log._open = writer.open
    assert writer.write(14 * MIB)
    assert writer.log.copy(writer.connection) is not None
