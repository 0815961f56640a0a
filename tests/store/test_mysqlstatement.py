"""Prepared statements on the real MariaDB: any value, in any number, as long as they are taken."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

import pymysql
import pytest

from mailsrv.store.dialect import Fault, parseUrl
from mailsrv.store.mysqlconnection import MAX_UNANSWERED, MysqlConnection
from mariadb import Database, MakeServer


@pytest.fixture
def connection(database: Database) -> Iterator[MysqlConnection]:
    database.query("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, n BIGINT, x LONGBLOB)")
    made = parseUrl(database.url).connect()
    assert isinstance(made, MysqlConnection)
    yield made
    made.close()


def insert(connection: Any, *values: Any) -> Any:
    """Rows of n and x, in one statement."""
    txn = connection.cursor()
    txn.execute("INSERT INTO t (n, x) VALUES " + ", ".join(["(?, ?)"] * (len(values) // 2)), values)
    return txn


def rows(connection: Any) -> list[tuple[Any, ...]]:
    txn = connection.cursor()
    txn.execute("SELECT n, x FROM t ORDER BY id")
    return list(txn.fetchall())


def test_octets_and_texts_of_any_length_go_in_as_they_are(connection: MysqlConnection) -> None:
    lengths = (0, 1, 250, 251, 252, 255, 256, 65_535, 65_536, 1 << 20)
    octets = [(bytes(range(256)) * 4096)[:length] for length in lengths]
    insert(connection, *(value for each in enumerate(octets) for value in each))
    assert rows(connection) == list(enumerate(octets))
    text = "it's \\ \0 % ? 😀\r\n" * 5000
    insert(connection, -1, text)
    assert rows(connection)[-1] == (-1, text.encode())


def test_a_column_of_text_takes_letters_and_counts_them(
    connection: MysqlConnection, database: Database
) -> None:
    database.query(
        "CREATE TABLE texts (short VARCHAR(4), at DATETIME(6), number INT)"
        " DEFAULT CHARACTER SET utf8mb4"
    )
    txn = connection.cursor()
    into = "INSERT INTO texts (short, at, number) VALUES (?, ?, ?)"
    txn.execute(into, ("ß€😀é", "2026-11-28 14:00:00.000001", "7"))
    with pytest.raises(pymysql.DataError, match="too long"):
        txn.execute(into, ("ß€😀éx", None, None))
    with pytest.raises(pymysql.OperationalError, match="Incorrect datetime"):
        txn.execute(into, (None, "tomorrow", None))
    with pytest.raises(pymysql.DataError, match="Incorrect string"):
        txn.execute(into, (b"\xff", None, None))
    txn.execute("SELECT short, at, number FROM texts")
    assert txn.fetchall() == (("ß€😀é", "2026-11-28 14:00:00.000001", 7),)


def test_what_may_compare_its_parameters_is_not_prepared(connection: MysqlConnection) -> None:
    txn = connection.cursor()
    insert(connection, 1, b"a")
    txn.execute("INSERT INTO t (n, x) SELECT n + ?, x FROM t WHERE x = ?", (1, "a"))
    txn.execute("SHOW SESSION STATUS LIKE 'Com_stmt_prepare'")
    assert txn.fetchall() == (("Com_stmt_prepare", "1"),)
    assert rows(connection) == [(1, b"a"), (2, b"a")]


def test_a_value_longer_than_a_packet_goes_in_where_the_server_takes_it(
    makeMariadb: MakeServer,
) -> None:
    database = makeMariadb("--max-allowed-packet=64M", "--innodb-log-file-size=96M").makeDatabase()
    database.query("CREATE TABLE t (id INT AUTO_INCREMENT PRIMARY KEY, n BIGINT, x LONGBLOB)")
    connection = parseUrl(database.url).connect()
    octets = bytes(range(256)) * (1 << 16) + b"end"  # 16 MiB, as much as goes into a packet, and 3
    insert(connection, 1, octets)
    assert rows(connection) == [(1, octets)]
    connection.close()


@pytest.mark.parametrize("number", [None, 0, True, -(1 << 63), (1 << 63) - 1])
def test_numbers_and_nothing_go_in_as_they_are(connection: MysqlConnection, number: object) -> None:
    for count in (1, 9):  # a second octet of what is NULL
        insert(connection, *[number, None] * count)
    assert rows(connection) == [(number, None)] * 10


@pytest.mark.parametrize("value", [1.5, Decimal("1.5"), bytearray(b"x")])
def test_what_is_of_no_kind_we_know_is_refused_and_not_made_to_fit(
    connection: MysqlConnection, value: object
) -> None:
    with pytest.raises(KeyError):
        insert(connection, value, None)
    assert rows(connection) == []


def test_a_statement_is_prepared_once_and_counts_its_rows(
    connection: MysqlConnection, database: Database
) -> None:
    for number in range(1, 4):
        txn = insert(connection, number, b"x")
        assert (txn.rowcount, txn.lastrowid) == (1, number)
    assert insert(connection, 1, None, 2, None).rowcount == 2
    txn = connection.cursor()
    txn.execute("SHOW SESSION STATUS LIKE 'Com_stmt_prepare'")
    assert txn.fetchall() == (("Com_stmt_prepare", "2"),)
    connection.rollback()
    assert database.query("SELECT * FROM t") == []


def test_what_the_database_does_not_take_is_told_and_harms_nothing_else(
    connection: MysqlConnection,
) -> None:
    insert(connection, 1, b"first")
    with pytest.raises(pymysql.Error, match="Out of range"):
        insert(connection, "99999999999999999999", b"x")
    with pytest.raises(ValueError, match="1 parameters for 2 places"):
        connection.cursor().execute("INSERT INTO t (n, x) VALUES (?, ?)", (1,))
    with pytest.raises(UnicodeEncodeError):
        insert(connection, 1, "\udcff")
    with pytest.raises(pymysql.DataError, match="max_allowed_packet"):
        insert(connection, 1, bytes(connection.largest))
    with pytest.raises(pymysql.Error) as caught:
        connection.cursor().execute("INSERT INTO missing (n) VALUES (?)", (1,))
    assert parseUrl("mysql://h/m").classify(caught.value) is Fault.TABLES
    insert(connection, 2, b"last")
    assert rows(connection) == [(1, b"first"), (2, b"last")]


def test_a_changed_table_needs_no_new_connection(
    connection: MysqlConnection, database: Database
) -> None:
    insert(connection, 1, b"before")
    connection.commit()
    database.query("ALTER TABLE t ADD COLUMN more INT, MODIFY n VARCHAR(10)")
    insert(connection, 2, b"after")
    assert rows(connection) == [("1", b"before"), ("2", b"after")]


# Without waiting for each answer


_N = "INSERT INTO t (n) VALUES (?)"
_ID = "INSERT INTO t (id, n) VALUES (?, ?)"


def pipeline(connection: MysqlConnection, *statements: tuple[str, Sequence[object]]) -> None:
    txn = connection.cursor()
    with connection.pipelined():
        for statement, values in statements:
            txn.execute(statement, values)


def test_a_statement_is_sent_before_the_one_ahead_of_it_is_answered(
    connection: MysqlConnection, database: Database
) -> None:
    other = parseUrl(database.url).connect()
    other.cursor().execute(_ID, (1, 0))
    txn = connection.cursor()
    with connection.pipelined():
        txn.execute(_ID, (1, 1))  # waits there for what becomes of the other one's row
        txn.execute(_ID, (2, 2))
        other.rollback()
    assert rows(connection) == [(1, None), (2, None)]
    other.close()


def test_the_first_failure_is_told_at_the_end_and_harms_nothing_later(
    connection: MysqlConnection,
) -> None:
    with pytest.raises(pymysql.IntegrityError, match="Duplicate entry '1'"):
        pipeline(connection, (_ID, (1, 1)), (_ID, (1, 2)), (_N, ("x",)), (_N, (3,)))
    connection.rollback()
    assert rows(connection) == []
    insert(connection, 1, b"x")
    assert rows(connection) == [(1, b"x")]


def test_a_failure_is_told_by_what_is_asked_next(connection: MysqlConnection) -> None:
    txn = connection.cursor()
    with connection.pipelined():
        for asked in ("SELECT 1", "SELECT ?", "INSERT INTO t (x) VALUES (?)"):
            txn.execute(_N, ("x",))
            with pytest.raises(pymysql.Error, match="Incorrect integer"):
                txn.execute(asked, ("1",) if "?" in asked else None)
    assert rows(connection) == []


def test_a_question_among_them_is_answered_as_after_each(connection: MysqlConnection) -> None:
    txn = connection.cursor()
    with connection.pipelined():
        for number in range(3 * MAX_UNANSWERED):
            assert txn.execute(_N, (number,)) == -1
        txn.execute("SELECT count(*), max(n) FROM t")
        assert txn.fetchall() == ((3 * MAX_UNANSWERED, 3 * MAX_UNANSWERED - 1),)
        txn.execute(_N, (-1,))
    assert len(rows(connection)) == 3 * MAX_UNANSWERED + 1


def test_more_than_may_wait_for_an_answer_fail_with_the_first(connection: MysqlConnection) -> None:
    with pytest.raises(pymysql.IntegrityError, match="Duplicate entry '3'"):
        pipeline(connection, *[(_ID, (id or 3, 1)) for id in range(2 * MAX_UNANSWERED)])
    connection.rollback()


def test_a_connection_that_is_lost_among_them_is_given_up(
    connection: MysqlConnection, database: Database
) -> None:
    insert(connection, 1, None)
    database.query(f"KILL {connection.thread_id()}")
    with pytest.raises(pymysql.Error) as caught:
        pipeline(connection, *[(_N, (number,)) for number in range(2 * MAX_UNANSWERED)])
    assert parseUrl("mysql://h/m").isLost(caught.value)
    with pytest.raises(pymysql.Error):
        connection.commit()
    assert database.query("SELECT * FROM t") == []


def test_a_server_that_is_no_mariadb_has_one_at_a_time(connection: MysqlConnection) -> None:
    connection.server_version = "8.0.40"
    txn = connection.cursor()
    with connection.pipelined():
        txn.execute(_ID, (1, 1))
        assert txn.rowcount == 1
        with pytest.raises(pymysql.IntegrityError):
            txn.execute(_ID, (1, 1))
