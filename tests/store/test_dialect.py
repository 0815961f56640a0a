"""The SQLite dialect: its URL, its file, and what its errors mean."""

from __future__ import annotations

import os
import sqlite3
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from mailsrv.store.dialect import Dialect, Fault, SqliteDialect, parseUrl


@pytest.fixture
def dialect(tmp_path: Path) -> SqliteDialect:
    return SqliteDialect(tmp_path / "mail.db", busyTimeout=0)


@pytest.fixture
def connection(dialect: SqliteDialect) -> sqlite3.Connection:
    connection = dialect.connect(create=True)
    connection.execute("CREATE TABLE t (a TEXT PRIMARY KEY, b TEXT UNIQUE, c TEXT CHECK (c > 1))")
    return connection


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:mail.db", "mail.db"),
        ("sqlite:./a b/mail.db", "a b/mail.db"),
        ("SQLite:/var/lib/mail.db", "/var/lib/mail.db"),
    ],
)
def test_a_url_names_the_file(url: str, path: str) -> None:
    dialect = parseUrl(url)
    assert isinstance(dialect, SqliteDialect)
    assert dialect.path == Path.cwd() / path


def test_a_relative_path_stays_where_it_was_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    dialect = SqliteDialect("mail.db")
    dialect.connect(create=True).close()
    monkeypatch.chdir("/")
    dialect.connect().close()


@pytest.mark.parametrize(
    "url",
    ["", "mail.db", "/var/mail.db", "sqlite:", "sqlite::memory:", "sqlite:///mail.db", "sqlite:a\0b",
     "oracle://me:secret@host/x", "secret:x", "mail:secret@host"],
)  # fmt: skip
def test_a_bad_url_is_refused_in_one_line_that_helps_and_keeps_passwords(url: str) -> None:
    with pytest.raises(ValueError, match="write sqlite:PATH") as caught:
        parseUrl(url)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_where_mail_goes_is_told_in_full(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert parseUrl("sqlite:mail.db").describe() == f"SQLite file {tmp_path}/mail.db"


def test_all_files_are_for_their_owner_only(
    dialect: SqliteDialect, connection: sqlite3.Connection
) -> None:
    before = os.umask(0)
    try:
        connection.execute("INSERT INTO t VALUES ('a', 'b', NULL)")
        connection.commit()
    finally:
        os.umask(before)
    files = sorted(dialect.path.parent.iterdir())
    assert [file.name for file in files] == ["mail.db", "mail.db-shm", "mail.db-wal"]
    assert {mode(file) for file in files} == {0o600}


def test_the_mode_an_operator_gave_is_left_alone(dialect: SqliteDialect) -> None:
    dialect.path.touch(0o640)
    dialect.path.chmod(0o640)
    dialect.connect(create=True).close()
    assert mode(dialect.path) == 0o640


def test_no_database_is_made_by_mistake(dialect: SqliteDialect) -> None:
    with pytest.raises(sqlite3.OperationalError) as caught:
        dialect.connect()
    assert dialect.classify(caught.value) is Fault.UNAVAILABLE
    assert not dialect.path.exists()


def test_a_path_may_hold_what_a_uri_may_not(tmp_path: Path) -> None:
    dialect = SqliteDialect(tmp_path / "a?mode=memory#%41 ü.db")
    dialect.connect(create=True).close()
    assert [path.name for path in tmp_path.iterdir()] == ["a?mode=memory#%41 ü.db"]


def test_what_is_committed_is_on_the_disk(connection: sqlite3.Connection) -> None:
    def setting(name: str) -> object:
        return connection.execute(f"PRAGMA {name}").fetchone()[0]

    assert setting("journal_mode") == "wal"
    assert setting("synchronous") == 2  # FULL
    assert setting("foreign_keys") == 1


def test_writing_begins_a_transaction_that_no_other_writer_enters(
    dialect: SqliteDialect, connection: sqlite3.Connection
) -> None:
    connection.execute("INSERT INTO t VALUES ('a', 'b', NULL)")
    other = dialect.connect()
    with pytest.raises(sqlite3.OperationalError) as caught:
        other.execute("INSERT INTO t VALUES ('c', 'd', NULL)")
    assert dialect.classify(caught.value) is Fault.TRANSIENT
    assert other.execute("SELECT count(*) FROM t").fetchone() == (0,)
    connection.rollback()
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (0,)
    other.close()


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("SELECT * FROM missing", Fault.TABLES),
        ("SELECT missing FROM t", Fault.TABLES),
        ("INSERT INTO t (missing) VALUES (1)", Fault.TABLES),
        ("INSERT INTO t VALUES ('x', 'z', NULL)", Fault.DUPLICATE),
        ("INSERT INTO t VALUES ('z', 'y', NULL)", Fault.DUPLICATE),
        ("INSERT INTO t VALUES ('z', 'z', 0)", Fault.OTHER),
        ("INSERT INTO t VALUES (zeroblob(2000000000), 'z', NULL)", Fault.OTHER),
        ("INSERT INTO t VALUES (zeroblob(2000000), 'z', NULL)", Fault.FULL),
        ("no such thing", Fault.OTHER),
    ],
)
def test_an_error_of_a_statement_is_known_by_its_fault(
    dialect: SqliteDialect, connection: sqlite3.Connection, statement: str, fault: Fault
) -> None:
    connection.execute("INSERT INTO t VALUES ('x', 'y', NULL)")
    connection.execute("PRAGMA max_page_count = 40")
    with pytest.raises(sqlite3.Error) as caught:
        connection.execute(statement)
    assert dialect.classify(caught.value) is fault
    assert not dialect.isLost(caught.value)


def test_what_is_no_error_of_the_database_is_another_fault(dialect: SqliteDialect) -> None:
    assert dialect.classify(ValueError("no such table")) is Fault.OTHER
    assert dialect.classify(OSError(28, "No space left on device")) is Fault.OTHER


def spoil(path: Path) -> None:
    path.write_bytes(b"This is no database at all. " * 1000)


def test_a_new_file_that_another_program_holds_is_waited_for_so_long_and_no_longer(
    dialect: SqliteDialect,
) -> None:
    blocker = sqlite3.connect(dialect.path, isolation_level=None)
    blocker.execute("CREATE TABLE t (x)")
    blocker.execute("BEGIN IMMEDIATE")
    patient = SqliteDialect(dialect.path, busyTimeout=0.05)
    with pytest.raises(sqlite3.OperationalError) as caught:
        patient.connect(create=True)
    assert patient.classify(caught.value) is Fault.TRANSIENT
    blocker.close()
    patient.connect(create=True).close()


def makeDirectory(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("damage", [spoil, makeDirectory])
def test_a_file_that_is_no_database_is_unavailable(
    dialect: SqliteDialect, damage: Callable[[Path], None]
) -> None:
    damage(dialect.path)
    with pytest.raises(sqlite3.Error) as caught:
        dialect.connect()
    assert dialect.classify(caught.value) is Fault.UNAVAILABLE
    assert dialect.isLost(caught.value)


def test_a_connection_is_stale_once_its_file_is_gone_or_another(dialect: SqliteDialect) -> None:
    connection = dialect.connect(create=True)
    assert not dialect.isStale(connection)
    dialect.path.rename(dialect.path.with_suffix(".old"))
    assert dialect.isStale(connection)
    dialect.connect(create=True).close()
    assert dialect.isStale(connection)
    dialect.path.with_suffix(".old").rename(dialect.path)
    assert not dialect.isStale(connection)
    connection.close()


def test_the_base_asks_no_more_of_a_connection_than_it_must() -> None:
    assert not Dialect().isStale(object())
