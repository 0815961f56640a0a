"""MySQL's dialect: URLs, the table of faults, hosts in turn, deadlines; on the real MariaDB."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pymysql
import pytest

from mailsrv.store import migrate
from mailsrv.store.dialect import Fault, NotDurable, parseUrl
from mailsrv.store.migrate import SchemaError, check, steps, upgrade
from mailsrv.store.mysql import MysqlDialect
from mariadb import Database, MakeServer, Mariadb


def mysql(url: str) -> MysqlDialect:
    dialect = parseUrl(url)
    assert isinstance(dialect, MysqlDialect)
    return dialect


# URLs


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://u:secret@h/mail", "MySQL database mail at h:3306"),
        ("MYSQL://h:3307/mail", "MySQL database mail at h:3307"),
        ("mysql:///mail", "MySQL database mail at localhost:3306"),
        ("mysql://u@a,b:3307,[::1]:1/m%2D1", "MySQL database m-1 at a:3306,b:3307,[::1]:1"),
        ("mysql://u@h/mail?unix_socket=%2Frun%2Fs", "MySQL database mail at /run/s"),
    ],
)
def test_where_mail_goes_is_told_without_the_password(url: str, says: str) -> None:
    assert parseUrl(url).describe() == says


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql:mail", "write mysql://user:password@host:port/name"),
        ("mysql://u:secret@h", "names no MySQL database"),
        ("mysql://u:secret@h/a/b", "names no MySQL database"),
        ("mysql://u:secret@h:port/m", "a host and port that cannot be read"),
        ("mysql://u:secret@h:0/m", "a host and port that cannot be read"),
        ("mysql://u:sec@ret@h:99999/m", "a host and port that cannot be read"),
        ("mysql://u:secret@h/m?charset=latin1", "a parameter 'charset' that is unknown"),
        ("mysql://u:secret@h/m#x", "a parameter '#' that is unknown"),
    ],
)
def test_a_url_that_will_not_do_is_told_in_a_line_without_the_password(url: str, says: str) -> None:
    with pytest.raises(ValueError, match="the database URL") as caught:
        parseUrl(url)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_missing_driver_is_told_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(__import__("sys").modules, "mailsrv.store.mysql")
    monkeypatch.setitem(__import__("sys").modules, "pymysql", None)
    with pytest.raises(ValueError, match=r"pip install 'smtpstore\[mysql\]'"):
        parseUrl("mysql://u@h/m")


# The table of faults


@pytest.mark.parametrize(
    ("fault", "codes"),
    [
        (Fault.TRANSIENT, (1205, 1213, 2006, 2013, 1047, 1020, 1927)),
        (Fault.UNAVAILABLE, (2002, 2003, 1040, 1045, 1290, 1044, 1142, 1203, 1698)),
        (Fault.FULL, (1021, 1026, 1114)),
        (Fault.TABLES, (1146, 1054, 1049)),
        (Fault.DUPLICATE, (1062,)),
        (Fault.OTHER, (1406, 1366, 1153, 1064, 9999)),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_faults_are_what_the_table_says(fault: Fault, codes: tuple[int, ...]) -> None:
    dialect = mysql("mysql://h/m")
    assert {dialect.classify(pymysql.OperationalError(code, "?")) for code in codes} == {fault}


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (pymysql.OperationalError(1030, 'Got error 28 "No space left on device"'), Fault.FULL),
        (pymysql.OperationalError(1030, "Got error 122"), Fault.UNAVAILABLE),
        (pymysql.OperationalError(1180, "Got error 28 during COMMIT"), Fault.FULL),
        (pymysql.InterfaceError(0, ""), Fault.TRANSIENT),
        (pymysql.Error(), Fault.OTHER),
        (NotDurable("x"), Fault.UNAVAILABLE),
        (OSError(28, "No space left on device"), Fault.OTHER),  # of the spool, not the database
    ],
)
def test_faults_that_no_number_tells(error: Exception, fault: Fault) -> None:
    assert mysql("mysql://h/m").classify(error) is fault


def test_what_makes_a_connection_useless() -> None:
    dialect = mysql("mysql://h/m")
    for code in (2006, 2013, 1047, 1290, 2003, 1927):
        assert dialect.isLost(pymysql.OperationalError(code, "")), code
    for code in (1205, 1213, 1062, 1146, 1114, 1406):
        assert not dialect.isLost(pymysql.OperationalError(code, "")), code
    assert dialect.isLost(pymysql.InterfaceError(0, ""))


# Sessions


@pytest.fixture
def dialect(database: Database) -> MysqlDialect:
    return mysql(database.url)


@pytest.fixture
def connection(dialect: MysqlDialect) -> Iterator[object]:
    made = dialect.connect()
    yield made
    made.close()


def ask(connection: object, sql: str, *parameters: object) -> tuple[object, ...]:
    txn = connection.cursor()  # type: ignore[attr-defined]
    txn.execute(sql, parameters)
    return tuple(txn.fetchone())


def test_a_session_is_strict_utc_and_utf8mb4_whatever_the_server_is(
    makeMariadb: MakeServer,
) -> None:
    server = makeMariadb(
        *("--sql-mode=NO_BACKSLASH_ESCAPES,ANSI_QUOTES", "--default-time-zone=+05:00"),
        *("--character-set-server=latin1", "--collation-server=latin1_swedish_ci"),
        "--transaction-isolation=SERIALIZABLE",
    )
    made = server.makeDatabase()
    dialect = mysql(made.url)
    upgrade(dialect)
    connection = dialect.connect()
    text = "é😀\\'\"\0%s?"
    assert ask(
        connection,
        "SELECT @@tx_isolation, @@autocommit, TIMEDIFF(NOW(), UTC_TIMESTAMP()) + 0, ?, 100 % 7",
        text,
    ) == ("REPEATABLE-READ", 0, 0, text, 2)
    with pytest.raises(pymysql.DataError):
        connection.cursor().execute(
            "INSERT INTO users (address) VALUES (?)", ("a" * 600 + "@example.com",)
        )
    connection.close()


def test_a_text_goes_in_and_out_also_where_backslashes_mean_nothing(connection: object) -> None:
    text = "\\ ' \" \0 \\' \x1a \n"
    connection.cursor().execute("SET sql_mode = 'NO_BACKSLASH_ESCAPES'")  # type: ignore[attr-defined]
    assert ask(connection, "SELECT ?", text) == (text,)


@pytest.mark.parametrize("mode", ["", "NO_BACKSLASH_ESCAPES", "ANSI_QUOTES"])
@pytest.mark.parametrize(
    "octets",
    [
        b"",
        b'From: a\r\n\r\nplain? 100% "text" %s\x1a\x7f\r\n',
        b"it's",
        b"back\\",
        b"nothing\0there",
        bytes(range(256)),
        "grün ÿ".encode("latin-1"),
    ],
)
def test_octets_go_in_and_out_as_they_are(connection: object, octets: bytes, mode: str) -> None:
    connection.cursor().execute(f"SET sql_mode = '{mode}'")  # type: ignore[attr-defined]
    assert ask(connection, "SELECT ?, HEX(?)", octets, octets) == (octets, octets.hex().upper())


def test_parameters_more_or_fewer_than_their_places_are_an_error(connection: object) -> None:
    for parameters in ((1,), (1, 2, 3)):
        with pytest.raises(pymysql.ProgrammingError, match="arguments"):
            ask(connection, "SELECT ?, ?", *parameters)


def test_times_go_in_and_out_as_text(connection: object) -> None:
    time = "0001-01-01 00:00:00.000000"
    assert ask(connection, "SELECT CAST(? AS DATETIME(6))", time) == (time,)


def test_an_update_counts_what_it_found_though_nothing_changes(
    dialect: MysqlDialect, database: Database
) -> None:
    upgrade(dialect)
    database.query("INSERT INTO users (address, name) VALUES ('a@x', 'A')")
    connection = dialect.connect()
    txn = connection.cursor()
    txn.execute("UPDATE users SET name = ? WHERE address = ?", ("A", "a@x"))
    assert txn.rowcount == 1
    connection.close()


def test_many_rows_none_included_go_in_by_executemany(
    dialect: MysqlDialect, database: Database
) -> None:
    upgrade(dialect)
    connection = dialect.connect()
    txn = connection.cursor()
    insert = "INSERT INTO users (address, name) VALUES (?, ?)"
    txn.executemany(insert, iter([]))
    assert txn.rowcount == 0
    txn.executemany(insert, ((f"{n}@x", "100%s ?") for n in range(5)))
    assert txn.rowcount == 5
    txn.executemany("DELETE FROM users WHERE address = ?", [("0@x",), ("1@x",), ("9@x",)])
    assert txn.rowcount == 2
    connection.commit()
    connection.close()
    assert database.query("SELECT DISTINCT name FROM users") == [("100%s ?",)]


def test_what_the_server_would_hang_up_on_is_refused_here(connection: object) -> None:
    [largest] = ask(connection, "SELECT @@max_allowed_packet")
    with pytest.raises(pymysql.DataError, match="max_allowed_packet"):
        ask(connection, "SELECT ?", b"x" * int(str(largest)))
    with pytest.raises(pymysql.DataError, match="max_allowed_packet"):
        ask(connection, "SELECT ?", b"'" * (int(str(largest)) // 2))
    assert ask(connection, "SELECT 1") == (1,)


# Reaching it


def test_it_is_reached_over_a_unix_socket_too(database: Database) -> None:
    connection = parseUrl(database.socketUrl).connect()
    assert ask(connection, "SELECT DATABASE()") == (database.name,)
    connection.close()


def test_a_unix_socket_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    dialect = mysql(f"mysql://u@localhost/m?unix_socket={quote(str(tmp_path / 's'))}")
    with pytest.raises(pymysql.OperationalError) as caught:
        dialect.connect()
    assert dialect.classify(caught.value) is Fault.UNAVAILABLE


def closedPort() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def test_of_several_hosts_the_next_is_asked_and_remembered(database: Database) -> None:
    hosts = f"127.0.0.1:{closedPort()},127.0.0.1:{database.server.port}"
    dialect = mysql(database.urlAt(hosts))
    for _ in range(2):
        connection = dialect.connect()
        assert connection.place == 1
        connection.close()
    dialect.moveOn(connection)
    connection = dialect.connect()
    assert connection.place == 1  # the first is still not there
    connection.close()


def test_a_host_that_hangs_leaves_time_for_the_next(database: Database) -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        hosts = f"127.0.0.1:{deaf.getsockname()[1]},127.0.0.1:{database.server.port}"
        began = time.monotonic()
        connection = mysql(database.urlAt(hosts)).connect(limit=1.0)
        assert 0.4 < time.monotonic() - began < 1.0
        connection.close()


def test_where_no_host_answers_it_is_given_up_in_time() -> None:
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        port = deaf.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(pymysql.OperationalError):
            mysql(f"mysql://u@127.0.0.1:{port},127.0.0.1:{port}/m").connect(limit=0.6)
        assert time.monotonic() - began < 1.2


def test_after_a_loss_the_next_host_is_first(database: Database) -> None:
    port = database.server.port
    dialect = mysql(database.urlAt(f"127.0.0.1:{port},127.0.0.1:{port}"))
    places = []
    for _ in range(3):
        connection = dialect.connect()
        places.append(connection.place)
        dialect.moveOn(connection)
        dialect.moveOn(connection)  # who notices second changes nothing
        connection.close()
    assert places == [0, 1, 0]


def test_a_query_is_given_up_at_the_deadline(dialect: MysqlDialect) -> None:
    connection = dialect.connect()
    dialect.limit(connection, 0.3)
    began = time.monotonic()
    with pytest.raises(pymysql.OperationalError) as caught:
        ask(connection, "SELECT SLEEP(20)")
    assert time.monotonic() - began < 1.0
    assert dialect.isLost(caught.value)
    assert dialect.isStale(connection)


def test_a_connection_the_server_has_ended_is_stale(
    dialect: MysqlDialect, database: Database
) -> None:
    connection = dialect.connect()
    assert not dialect.isStale(connection)
    database.disconnectAll()
    deadline = time.monotonic() + 5
    while not dialect.isStale(connection):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    connection.close()


# TLS


@pytest.fixture(scope="module")
def certificates(_template: Path) -> Path:
    """Two certificates for 127.0.0.1 with their keys where the server may read them."""
    place = _template / "tls"
    place.mkdir(mode=0o755)
    for name in ("cert", "other"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", str(place / f"{name}-key.pem"), "-out", str(place / f"{name}.pem")),
            ],
            check=True,
            capture_output=True,
        )
        (place / f"{name}-key.pem").chmod(0o644)
    return place


@pytest.fixture(scope="module")
def tlsServer(_makeMariadb: MakeServer, certificates: Path) -> Iterator[Mariadb]:
    server = _makeMariadb(
        f"--ssl-cert={certificates / 'cert.pem'}", f"--ssl-key={certificates / 'cert-key.pem'}"
    )
    yield server
    server.kill()


def test_tls_is_verified_by_the_authority_given(tlsServer: Mariadb, certificates: Path) -> None:
    made = tlsServer.makeDatabase()
    connection = parseUrl(f"{made.url}?ssl_ca={certificates / 'cert.pem'}").connect()
    assert ask(connection, "SHOW STATUS LIKE 'Ssl_cipher'")[1] != ""
    connection.close()
    with pytest.raises(pymysql.OperationalError, match="CERTIFICATE_VERIFY_FAILED"):
        parseUrl(f"{made.url}?ssl_ca={certificates / 'other.pem'}").connect()


def test_tls_that_the_server_has_not_is_no_way_round(
    database: Database, certificates: Path
) -> None:
    dialect = parseUrl(f"{database.url}?ssl_ca={certificates / 'cert.pem'}")
    with pytest.raises(pymysql.OperationalError, match="SSL") as caught:
        dialect.connect()
    assert dialect.classify(caught.value) is Fault.UNAVAILABLE


def test_a_name_that_is_not_the_certificates_is_refused_unless_told_otherwise(
    tlsServer: Mariadb, certificates: Path
) -> None:
    made = tlsServer.makeDatabase()
    url = made.urlAt(f"localhost:{tlsServer.port}") + f"?ssl_ca={certificates / 'cert.pem'}"
    with pytest.raises(pymysql.OperationalError, match="mismatch"):
        parseUrl(url).connect()
    connection = parseUrl(f"{url}&ssl_verify_identity=0").connect()
    assert ask(connection, "SHOW STATUS LIKE 'Ssl_cipher'")[1] != ""
    connection.close()


# The tables


def test_init_makes_the_database_where_there_is_none(database: Database) -> None:
    dialect = mysql(database.url)
    database.query(f"DROP DATABASE `{database.name}`")
    with pytest.raises(SchemaError, match="is not there yet; run: smtpstore init"):
        check(dialect)
    assert "0001_users" in upgrade(dialect)
    assert upgrade(dialect) == []
    assert check(dialect) == []


def test_init_without_the_right_to_make_a_database_says_so(database: Database) -> None:
    with pytest.raises(SchemaError, match="Access denied"):
        upgrade(mysql(database.url.rpartition("/")[0] + "/another"))


STEPS = steps(parseUrl("mysql://user@host/name"))


@pytest.mark.parametrize(
    ("at", "done"),
    [(at, done) for at, step in enumerate(STEPS) for done in range(len(step.statements) + 1)],
)
def test_a_step_that_was_cut_off_is_run_again(
    database: Database, monkeypatch: pytest.MonkeyPatch, at: int, done: int
) -> None:
    """So many of its statements were run, and that was not noted down."""
    dialect = mysql(database.url)
    cut = replace(STEPS[at], statements=STEPS[at].statements[:done])
    with monkeypatch.context() as older:
        older.setattr(migrate, "steps", lambda dialect: [*STEPS[:at], cut])
        upgrade(dialect)
    database.query("DELETE FROM schema_version WHERE version = %s", cut.version)
    with pytest.raises(SchemaError, match=r"holds (tables of an older version|no tables yet)"):
        check(dialect)
    assert upgrade(dialect) == [step.name for step in STEPS[at:]]
    assert check(dialect) == []


def test_mail_of_an_older_database_keeps_its_body(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialect = mysql(database.url)
    with monkeypatch.context() as older:
        older.setattr(migrate, "steps", lambda dialect: steps(dialect)[:4])
        upgrade(dialect)
    database.query(
        "INSERT INTO messages (id, received_at, sender, size, protocol, peer, helo, parameters,"
        " sha256, trace, body, data) VALUES ('A', NOW(), '', 1, '', '', '', '', '', '', 'old', 'x')"
    )
    upgrade(dialect)
    assert database.query("SELECT id, body FROM messages") == [("A", "old")]


def test_tables_of_another_program_are_left_alone(database: Database) -> None:
    database.query("CREATE TABLE users (name TEXT)")
    with pytest.raises(SchemaError, match=r"holds tables of another program \(users\)"):
        upgrade(mysql(database.url))
    assert database.query("SHOW TABLES") == [("users",)]


def test_two_that_init_at_once_take_turns(database: Database) -> None:
    """The second finds the lock, and then nothing left to do."""
    dialect = mysql(database.url)
    first = dialect.connect()
    with dialect.lockedForUpgrade(first):
        [(name,)] = database.query(
            "SELECT IS_USED_LOCK(%s) IS NOT NULL", f"smtpstore {database.name}"
        )
        assert name == 1
    assert ask(first, "SELECT IS_FREE_LOCK(?)", f"smtpstore {database.name}") == (1,)
    first.close()


def test_every_column_and_table_says_what_it_is_for(database: Database) -> None:
    upgrade(mysql(database.url))
    bare = database.query(
        "SELECT c.table_name, c.column_name FROM information_schema.columns c"
        " JOIN information_schema.tables t USING (table_schema, table_name)"
        " WHERE table_schema = DATABASE() AND c.column_comment = ''"
        " AND t.table_type = 'BASE TABLE' AND table_name <> 'schema_version'"
    )
    assert bare == []


def test_the_same_tables_and_columns_stand_in_both_databases(
    database: Database, tmp_path: Path
) -> None:
    upgrade(mysql(database.url))
    sqlite = parseUrl(f"sqlite:{tmp_path / 'mail.db'}")
    upgrade(sqlite)
    txn = sqlite.connect(True).cursor()
    txn.execute(
        "SELECT m.name, c.name FROM sqlite_schema m JOIN pragma_table_xinfo(m.name) c"
        " WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite_%' AND c.hidden <> 1"
    )
    expected = {row for row in txn.fetchall() if not row[0].startswith("search_")}
    found = database.query(
        "SELECT table_name, column_name FROM information_schema.columns"
        " WHERE table_schema = DATABASE()"
    )
    assert {row for row in found if not row[0].startswith("search_")} == expected


# Addresses


def test_addresses_differ_by_any_letter_but_the_case_of_a_to_z(database: Database) -> None:
    upgrade(mysql(database.url))
    apart = ["e@x", "é@x", "É@x", "e\u0301@x", "ß@x", "ss@x", "ı@x", "i@x", "😀@x", "😁@x"]
    for address in apart:
        database.query("INSERT INTO users (address) VALUES (%s)", address)
    for address in ("E@X", "SS@x", "I@x"):
        with pytest.raises(pymysql.IntegrityError):
            database.query("INSERT INTO users (address) VALUES (%s)", address)
    keys = dict(database.query("SELECT address, address_key FROM users"))
    assert keys == {address: address for address in apart}
    latin = database.server.connect(database=database.name, charset="latin1")
    with latin.cursor() as cursor:  # as a person with an old client would
        cursor.execute("INSERT INTO users (address) VALUES ('Zoë.ÄQ@Example.COM')")
    latin.close()
    [(key,)] = database.query("SELECT address_key FROM users WHERE address LIKE 'Zo%'")
    assert key == "zoë.Äq@example.com"


# Durability


def test_what_is_not_kept_is_refused_where_that_is_required(makeMariadb: MakeServer) -> None:
    server = makeMariadb("--innodb-flush-log-at-trx-commit=2", "--log-bin", "--sync-binlog=0")
    made = server.makeDatabase()
    dialect = mysql(made.url)
    upgrade(dialect)
    warnings = check(dialect)
    assert [line.split()[0] for line in warnings] == [
        "innodb_flush_log_at_trx_commit",
        "sync_binlog",
    ]
    dialect.requireDurable = True
    with pytest.raises(SchemaError, match="may lose what it has committed: innodb_flush"):
        check(dialect)
    server.query("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    server.query("SET GLOBAL sync_binlog = 1")
    assert check(dialect) == []
