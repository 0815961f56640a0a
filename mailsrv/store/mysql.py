"""MySQL and MariaDB, by PyMySQL. Tested on MariaDB 10.11; written for MySQL 8, untested there."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import pymysql
from pymysql.constants import CR, ER

from mailsrv.store.database import Connection, Dialect, Fault, Finding, NotDurable
from mailsrv.store.mysqlconnection import OPTIONS, MysqlConnection, MysqlCursor
from mailsrv.store.queries import Txn

_PORT = 3306
_CONNECT_LIMIT = 10.0  # seconds, where nobody says less
_LEAST = 0.05  # seconds that any answer is waited for
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PARAMETERS = ("unix_socket", "ssl_ca", "ssl_cert", "ssl_key", "ssl_verify_identity")

_FAULTS = {
    Fault.TRANSIENT: (
        ER.LOCK_WAIT_TIMEOUT, ER.LOCK_DEADLOCK, ER.CHECKREAD, ER.TABLE_DEF_CHANGED,
        ER.QUERY_INTERRUPTED, ER.SERVER_SHUTDOWN, ER.NEW_ABORTING_CONNECTION,
        ER.ABORTING_CONNECTION, ER.NET_READ_ERROR, ER.NET_READ_INTERRUPTED,
        ER.NET_ERROR_ON_WRITE, ER.NET_WRITE_INTERRUPTED,
        1047,  # a Galera node that is not (yet) part of its cluster
        1927,  # the connection was killed (MariaDB)
        1969,  # max_statement_time (MariaDB)
        3024,  # max_execution_time (MySQL)
        4031,  # the connection was idle for too long (MySQL)
        ER.UNKNOWN_STMT_HANDLER, 1615,  # a prepared statement was lost, or its table has changed
        CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, CR.CR_SERVER_LOST_EXTENDED,
        CR.CR_COMMANDS_OUT_OF_SYNC,
    ),
    Fault.UNAVAILABLE: (
        CR.CR_CONNECTION_ERROR, CR.CR_CONN_HOST_ERROR, CR.CR_UNKNOWN_HOST,
        CR.CR_SSL_CONNECTION_ERROR, CR.CR_AUTH_PLUGIN_CANNOT_LOAD, CR.CR_AUTH_PLUGIN_ERR,
        ER.CON_COUNT_ERROR, ER.TOO_MANY_USER_CONNECTIONS, ER.USER_LIMIT_REACHED,
        ER.HOST_IS_BLOCKED, ER.HOST_NOT_PRIVILEGED, ER.ACCESS_DENIED_ERROR,
        ER.DBACCESS_DENIED_ERROR, 1698, ER.TABLEACCESS_DENIED_ERROR, ER.COLUMNACCESS_DENIED_ERROR,
        ER.SPECIFIC_ACCESS_DENIED_ERROR,
        ER.NOT_SUPPORTED_AUTH_MODE, 1820, 1862, 3118, 4151,  # passwords expired, accounts locked
        ER.OPTION_PREVENTS_STATEMENT, ER.OPEN_AS_READONLY, 1792, 1836, 1223,  # read only
        ER.OUTOFMEMORY, ER.OUT_OF_SORTMEMORY, ER.OUT_OF_RESOURCES, ER.CANT_CREATE_THREAD,
        ER.GET_ERRNO, ER.CANT_OPEN_FILE, ER.FILE_NOT_FOUND, ER.ERROR_ON_READ, ER.NOT_FORM_FILE,
        ER.NOT_KEYFILE, ER.CRASHED_ON_USAGE, ER.CRASHED_ON_REPAIR, 1812, 1877, 1932,  # damaged
    ),
    Fault.FULL: (
        3, 20,  # of the operating system, passed on
        ER.DISK_FULL, ER.ERROR_ON_WRITE, ER.RECORD_FILE_FULL, ER.TRANS_CACHE_FULL,
        1598, 1705,  # of the binary log
    ),
    Fault.TABLES: (
        ER.NO_SUCH_TABLE, ER.BAD_FIELD_ERROR, ER.BAD_DB_ERROR, ER.NO_DB_ERROR, ER.UNKNOWN_TABLE,
        ER.NO_DEFAULT_FOR_FIELD, ER.WRONG_VALUE_COUNT_ON_ROW, ER.VIEW_INVALID,
    ),
    Fault.DUPLICATE: (ER.DUP_ENTRY, ER.DUP_KEY, 1586),
}  # fmt: skip
_BY_CODE = {code: fault for fault, codes in _FAULTS.items() for code in codes}
# After these the connection, or the node behind it, is of no use.
_LOST = {
    CR.CR_SERVER_GONE_ERROR, CR.CR_SERVER_LOST, CR.CR_SERVER_LOST_EXTENDED,
    CR.CR_COMMANDS_OUT_OF_SYNC, ER.QUERY_INTERRUPTED, ER.SERVER_SHUTDOWN,
    ER.NEW_ABORTING_CONNECTION, ER.ABORTING_CONNECTION, ER.NET_READ_ERROR, ER.NET_READ_INTERRUPTED,
    ER.NET_ERROR_ON_WRITE, ER.NET_WRITE_INTERRUPTED, ER.UNKNOWN_STMT_HANDLER, 1047, 1927, 4031,
}  # fmt: skip
# The URL is wrong, which no waiting mends.
_MISTAKEN = {ER.ACCESS_DENIED_ERROR, ER.DBACCESS_DENIED_ERROR, ER.BAD_DB_ERROR, 1698}
_DISK_FULL = re.compile(r"\b(?:error|errno:?) 28\b|No space left", re.IGNORECASE)


class MysqlDialect(Dialect):
    """One MySQL or MariaDB database, on one host or on several that are nodes of one cluster.

    `hosts`: (name, port), asked in turn, the one that worked last first. Isolation is REPEATABLE
    READ, sessions are strict, UTC and utf8mb4, whatever the server's defaults are.
    """

    name = "MySQL"
    driver = "pymysql"
    schema = "mysql"
    writers = 3  # two for the large: 1.3 times as many messages of 1 MiB
    lockingRead = " FOR UPDATE"
    commitsDdl = True

    def __init__(
        self,
        hosts: Sequence[tuple[str, int]],
        database: str,
        user: str = "",
        password: str = "",
        **parameters: str,
    ) -> None:
        self.hosts = list(hosts)
        self.database = database
        self._user = user
        self._first = 0
        self._options: dict[str, Any] = {
            "user": user or None,
            "password": password.encode(),
            "cursorclass": MysqlCursor,
            **OPTIONS,
        }
        self._options.update(parameters)
        if any(name.startswith("ssl_") for name in parameters):
            isVerified = parameters.get("ssl_verify_identity", "1") not in ("0", "false", "no")
            self._options["ssl_verify_cert"] = True
            self._options["ssl_verify_identity"] = isVerified

    def describe(self) -> str:
        hosts = ",".join(f"{_bracketed(host)}:{port}" for host, port in self.hosts)
        return f"MySQL database {self.database} at {self._options.get('unix_socket', hosts)}"

    def connect(self, create: bool = False, limit: float | None = None) -> Any:
        deadline = time.monotonic() + (_CONNECT_LIMIT if limit is None else limit)
        try:
            connection = self._connectInTurn(deadline, database=self.database)
        except pymysql.Error as error:
            if not create or _codeOf(error) != ER.BAD_DB_ERROR:
                raise
            connection = self._create(deadline)
        connection.deadline = math.inf if limit is None else deadline
        return connection

    def _connectInTurn(self, deadline: float, **options: Any) -> MysqlConnection:
        count = len(self.hosts)
        first = self._first
        for attempt in range(count):
            place = (first + attempt) % count
            try:
                # Each has its share of the time: one that hangs leaves some to the others.
                left = (deadline - time.monotonic()) / (count - attempt)
                connection = self._connectTo(place, max(left, _LEAST), options)
            except pymysql.Error:
                if attempt == count - 1:
                    raise
            else:
                self._first = place
                return connection
        raise AssertionError("there is at least one host")

    def _connectTo(self, place: int, limit: float, options: dict[str, Any]) -> MysqlConnection:
        host, port = self.hosts[place]
        # Elsewhere TLS is used where the server has it, verified where the URL says how.
        isHere = host in _LOOPBACK or "unix_socket" in self._options
        connection = MysqlConnection(
            host=host,
            port=port,
            ssl_disabled=isHere and "ssl_verify_cert" not in self._options,
            connect_timeout=limit,
            read_timeout=limit,
            write_timeout=limit,
            **self._options,
            **options,
        )
        try:
            connection.place = place
            connection.deadline = time.monotonic() + limit
            connection.look(self.requireDurable)
        except BaseException:
            connection.close()
            raise
        return connection

    def _create(self, deadline: float) -> MysqlConnection:
        connection = self._connectInTurn(deadline)
        try:
            name = self.database.replace("`", "``")
            txn = connection.cursor()
            txn.execute(
                f"CREATE DATABASE IF NOT EXISTS `{name}` CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
            )
            connection.select_db(self.database)
        except BaseException:
            connection.close()
            raise
        return connection

    def pipelined(self, txn: Any) -> AbstractContextManager[None]:
        connection: MysqlConnection = txn.connection
        return connection.pipelined()

    def limit(self, connection: Any, seconds: float) -> None:
        connection.deadline = time.monotonic() + seconds

    def isStale(self, connection: Any) -> bool:
        return bool(connection.isReadable())

    def isLost(self, error: BaseException) -> bool:
        if isinstance(error, pymysql.InterfaceError) or _codeOf(error) in _LOST:
            return True
        return self.classify(error) is Fault.UNAVAILABLE

    def moveOn(self, connection: Any) -> None:
        if connection.place == self._first:
            self._first = (connection.place + 1) % len(self.hosts)

    def isMistaken(self, error: BaseException) -> bool:
        # What is no error of the driver's comes of files that the URL names.
        return _codeOf(error) in _MISTAKEN or isinstance(error, OSError)

    def classify(self, error: BaseException) -> Fault:
        if isinstance(error, NotDurable):
            return Fault.UNAVAILABLE
        if isinstance(error, pymysql.InterfaceError):
            return Fault.TRANSIENT  # used after it was closed
        if not isinstance(error, pymysql.Error):
            return Fault.OTHER
        fault = _BY_CODE.get(_codeOf(error), Fault.OTHER)
        if fault in (Fault.UNAVAILABLE, Fault.OTHER) and _DISK_FULL.search(str(error)):
            return Fault.FULL
        return fault

    def durability(self, connection: Any) -> list[Finding]:
        found: list[Finding] = connection.durability.findings
        return found

    @contextmanager
    def lockedForUpgrade(self, connection: Connection) -> Iterator[Txn]:
        """The lock is the connection's: it ends with it, whatever happens."""
        txn = connection.cursor()
        lock = f"smtpstore {self.database}"[:64]
        txn.execute("SELECT GET_LOCK(?, 30)", (lock,))
        if txn.fetchone()[0] != 1:
            raise pymysql.OperationalError(
                ER.LOCK_WAIT_TIMEOUT, "another smtpstore init is at work there"
            )
        yield txn
        connection.commit()
        txn.execute("SELECT RELEASE_LOCK(?)", (lock,))


def _codeOf(error: BaseException) -> int:
    code = error.args[0] if error.args else 0
    return code if isinstance(code, int) else 0


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def mysql(rest: str) -> Dialect:
    """The dialect for what follows `mysql:`; raises ValueError, as `parseUrl` does."""
    parts = urlsplit(f"mysql:{rest}")
    credentials, _, places = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    database = unquote(parts.path[1:])
    if not rest.startswith("//") or not database or "/" in database:
        raise ValueError(
            "the database URL names no MySQL database; write mysql://user:password@host:port/name,"
            " with %40 for an @ and %2F for a / in the password"
        )
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    unknown = [name for name in parameters if name not in _PARAMETERS]
    if unknown or parts.fragment:
        raise ValueError(
            f"the database URL has a parameter {unknown[0] if unknown else '#'!r} that is unknown;"
            f" known are {', '.join(_PARAMETERS)}"
        )
    hosts = [_host(place) for place in places.split(",")]
    return MysqlDialect(hosts, database, unquote(user), unquote(password), **parameters)


def _host(place: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]*)(?::(\d+))?", place)
    if match is None or not 0 < int(match[2] or _PORT) < 65536:
        raise ValueError(
            "the database URL holds a host and port that cannot be read; write host:port, several"
            " with commas between them, [::1]:3306 for IPv6, and %40 for an @ in the password"
        )
    return match[1].strip("[]") or "localhost", int(match[2] or _PORT)
