"""What of a database bears on the promise, looked at one by one."""

from __future__ import annotations

import re
import shutil
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from mailsrv.store.dialect import Connection, Dialect, Finding, SqliteDialect
from mailsrv.store.migrate import SchemaError, checkTables
from mailsrv.store.queries import parseTime

MIB = 1 << 20
_LEAST_PACKET = 16 * MIB
_LEAST_SPACE = 1024 * MIB
_MOST_SKEW = 2.0  # seconds
_RIGHTS = (
    "SELECT", "INSERT", "UPDATE", "DELETE",
    "CREATE", "ALTER", "DROP", "INDEX", "REFERENCES", "CREATE VIEW", "SHOW VIEW",
)  # fmt: skip
_GRANT = re.compile(r"GRANT (.+?) ON (\S+) TO ")

_REACHED = "mail is stored where the database can be reached"
_HAS_TABLES = "mail is stored where the tables are those of this program"
_ONE_TRANSACTION = "a message is stored whole or not at all where tables have transactions"
_MEND_CONNECT = "start it, make it by smtpstore init, or correct --db"


def examine(dialect: Dialect, limit: float = 10.0) -> list[Finding]:
    """All findings; blocking, changes nothing. `limit`: seconds the database has to answer."""
    try:
        connection = dialect.connect(limit=limit)
    except Exception as error:
        return [Finding("database", f"not available ({error})", False, _REACHED, _MEND_CONNECT)]
    try:
        return list(_findings(dialect, connection))
    except Exception as error:
        return [Finding("database", f"failing ({error})", False, _REACHED, _MEND_CONNECT)]
    finally:
        connection.close()


def _findings(dialect: Dialect, connection: Connection) -> Iterator[Finding]:
    yield Finding("database", dialect.describe(), True, _REACHED, _MEND_CONNECT)
    yield _tables(dialect, connection)
    yield from dialect.durability(connection)
    kinds = {"sqlite": _sqlite, "mysql": _mysql}
    yield from kinds[dialect.schema](dialect, connection)


def _tables(dialect: Dialect, connection: Connection) -> Finding:
    try:
        checkTables(connection, dialect)
    except SchemaError as error:
        return Finding("tables", f"wrong ({error})", False, _HAS_TABLES, "run: smtpstore init")
    return Finding("tables", "up to date", True, _HAS_TABLES, "")


# SQLite


def _sqlite(dialect: Any, connection: Any) -> Iterator[Finding]:
    assert isinstance(dialect, SqliteDialect)
    [(mode,)] = connection.execute("PRAGMA journal_mode").fetchall()
    yield Finding(
        "journal_mode",
        mode,
        mode == "wal",
        "mail is read while other mail is written where it is wal",
        "run: smtpstore init",
    )
    rights = stat.S_IMODE(dialect.path.stat().st_mode)
    yield Finding(
        "file mode",
        f"{rights:04o}",
        not rights & 0o077,
        "nobody else on this machine reads the mail where it is 0600",
        f"chmod 600 {dialect.path}",
    )
    free = shutil.disk_usage(dialect.path.parent).free
    yield Finding(
        "free space",
        f"{free // MIB} MiB",
        free >= _LEAST_SPACE,
        "mail is refused (452) where there is none, and 1 GiB is little",
        f"make room beside {dialect.path}",
    )


# MySQL


def _mysql(dialect: Any, connection: Any) -> Iterator[Finding]:
    txn = connection.cursor()
    txn.execute(
        "SELECT @@version, @@max_allowed_packet, @@sql_mode, @@character_set_connection,"
        " @@read_only, @@innodb_doublewrite, UTC_TIMESTAMP(6)"
    )
    [(version, packet, mode, charset, isReadOnly, doublewrite, clock)] = txn.fetchall()
    yield Finding("version", version, True, "MariaDB 10.11 is what it is tested on", "")
    yield Finding(
        "max_allowed_packet",
        packet,
        packet >= _LEAST_PACKET,
        "many messages share one statement where it is 16 MiB; under 3 MiB large ones are refused",
        f"SET GLOBAL max_allowed_packet = {_LEAST_PACKET}, and in the server's my.cnf",
    )
    yield Finding(
        "sql_mode",
        mode,
        "STRICT_ALL_TABLES" in mode,
        "what does not fit is refused and never cut where it is strict",
        "let the user set it: it is set at each connection",
    )
    yield Finding(
        "character set",
        charset,
        charset == "utf8mb4",
        "every character is kept where it is utf8mb4",
        "let the user set it: it is set at each connection",
    )
    yield _columns(txn)
    yield _engines(txn)
    yield Finding(
        "read_only",
        isReadOnly,
        str(isReadOnly) in ("0", "OFF"),
        "mail is stored where the server may be written to",
        "SET GLOBAL read_only = 0, or name the primary in --db",
    )
    yield Finding(
        "innodb_doublewrite",
        doublewrite,
        str(doublewrite) not in ("0", "OFF"),
        "a page half written at a power failure is mended where it is on",
        "take innodb_doublewrite=0 out of the server's my.cnf",
    )
    skew = abs((datetime.now(UTC) - parseTime(str(clock))).total_seconds())
    yield Finding(
        "clock difference",
        f"{skew:.1f} s",
        skew < _MOST_SKEW,
        "times, and the turns of several servers, are right where the clocks agree",
        "run a time service (NTP) on both machines",
    )
    yield _rights(txn, dialect.database)


def _columns(txn: Any) -> Finding:
    txn.execute(
        "SELECT count(*) FROM information_schema.columns WHERE table_schema = DATABASE()"
        " AND table_name IN ('messages', 'recipients', 'users', 'aliases', 'queue')"
        " AND character_set_name NOT IN ('utf8mb4', 'ascii')"
    )
    [(count,)] = txn.fetchall()
    return Finding(
        "columns that are not utf8mb4",
        count,
        count == 0,
        "every character is kept where they are utf8mb4",
        "ALTER TABLE … CONVERT TO CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    )


def _engines(txn: Any) -> Finding:
    txn.execute(
        "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
        " AND table_name IN ('messages', 'message_parts', 'recipients', 'queue', 'events')"
        " AND engine <> 'InnoDB'"
    )
    others = ", ".join(name for (name,) in txn.fetchall())
    return Finding(
        "tables without transactions",
        others or "none",
        not others,
        _ONE_TRANSACTION,
        "ALTER TABLE … ENGINE = InnoDB",
    )


def _rights(txn: Any, database: str) -> Finding:
    txn.execute("SHOW GRANTS FOR CURRENT_USER")
    granted: set[str] = set()
    hasRoles = False
    for (line,) in txn.fetchall():
        match = _GRANT.match(line)
        if match is None:
            hasRoles = True
            continue
        place = match[2].replace("`", "").replace("\\", "")
        if place in ("*.*", f"{database}.*"):
            granted |= {right.strip() for right in match[1].split(",")}
    missing = [] if "ALL PRIVILEGES" in granted else [r for r in _RIGHTS if r not in granted]
    names = ", ".join(missing)
    value = "enough" if not missing else f"without {names}"
    if missing and hasRoles:
        value += ", unless a role has them"
    return Finding(
        "rights",
        value,
        not missing or hasRoles,
        "mail is stored, and smtpstore init runs, where the user may do what they need",
        f"GRANT {names or 'ALL'} ON `{database}`.* TO the user",
    )
