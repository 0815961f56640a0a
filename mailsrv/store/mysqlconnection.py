"""A connection to MySQL or MariaDB, by PyMySQL, with the manners of `mailsrv.store`."""

from __future__ import annotations

import math
import select
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pymysql
from pymysql.constants import CLIENT, CR, ER, FIELD_TYPE
from pymysql.converters import conversions
from pymysql.cursors import Cursor

from mailsrv.store.database import Finding, NotDurable
from mailsrv.store.mysqlstatement import PreparedStatement

_LEAST = 0.05  # seconds that any answer is waited for
MAX_UNANSWERED = 16  # statements; as many may be sent in vain behind one that has failed

# Waiting for locks ends long before a client has given up. STRICT_ALL_TABLES: what does not fit
# is an error, never cut.
_SETTINGS = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO',"
    " time_zone = '+00:00', autocommit = 0, innodb_lock_wait_timeout = 5, lock_wait_timeout = 30"
)
# Apart: no variable of that name is common to both.
_ISOLATION = "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ"
_SETTINGS_ASKED = (
    "SELECT @@max_allowed_packet, @@innodb_flush_log_at_trx_commit, @@log_bin, @@sync_binlog"
)
# Times come as text, as they go in.
_CONVERSIONS = {
    kind: convert
    for kind, convert in conversions.items()
    if kind not in (FIELD_TYPE.DATETIME, FIELD_TYPE.TIMESTAMP, FIELD_TYPE.DATE, FIELD_TYPE.TIME)
}
OPTIONS: dict[str, Any] = {
    "charset": "utf8mb4",
    "conv": _CONVERSIONS,
    "init_command": _SETTINGS,
    "autocommit": None,
    # An UPDATE counts the rows it found, changed or not, as SQLite does.
    "client_flag": CLIENT.FOUND_ROWS,
    "program_name": "smtpstore",
}


@dataclass(frozen=True, slots=True)
class Durability:
    """What the server does with what it commits, as it was set when a connection was made."""

    flushLogAtCommit: int
    hasBinlog: bool
    syncBinlog: int

    @property
    def findings(self) -> list[Finding]:
        return [
            Finding(
                "innodb_flush_log_at_trx_commit",
                self.flushLogAtCommit,
                self.flushLogAtCommit == 1,
                "a COMMIT is kept at a power failure where it is 1",
                "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and in the server's my.cnf",
            ),
            Finding(
                "sync_binlog",
                self.syncBinlog if self.hasBinlog else "not used, there is no binary log",
                self.syncBinlog == 1 or not self.hasBinlog,
                "replicas and recovery have all that was committed where it is 1",
                "SET GLOBAL sync_binlog = 1, and in the server's my.cnf",
            ),
        ]

    @property
    def weaknesses(self) -> list[Finding]:
        return [finding for finding in self.findings if not finding.isFine]


class MysqlCursor(Cursor):
    """A cursor that takes `?` for parameters."""

    connection: MysqlConnection
    _do_get_result: Callable[[], None]

    def execute(self, query: Any, args: Any = None) -> int:
        if not args:
            return super().execute(query)
        if "?" not in query:  # what `executemany` has translated
            return super().execute(query, args)
        isOfValues = query.startswith("INSERT") and " VALUES (" in query
        statement = self.connection.prepared(query) if isOfValues else None
        if statement is None:
            return super().execute(_translate(query), args)
        statement.send(self.connection, args)
        if self.connection.isPipelined:
            self.rowcount = -1  # not known yet, in DB-API's words
        else:
            self.connection.readAnswers()
            self._do_get_result()
        return self.rowcount

    def executemany(self, query: Any, args: Any) -> int | None:
        """As one statement of many rows where it is an INSERT."""
        rows = list(args)
        self.rowcount = 0
        return super().executemany(_translate(query), rows) if rows else 0


@lru_cache(maxsize=512)
def _translate(query: str) -> str:
    return query.replace("%", "%%").replace("?", "%s")


class MysqlConnection(pymysql.Connection):
    """A connection that gives up at its `deadline`, and knows the longest statement it may send.

    `deadline`: by time.monotonic(). `host`: its place in the dialect's list.
    """

    _sock: Any
    _execute_command: Callable[[int, bytes], None]
    deadline = math.inf
    largest = 1 << 24
    durability = Durability(1, False, 1)
    place = 0
    isPipelined = False
    server_version: str
    _next_seq_id: int
    _read_query_result: Callable[[], int]

    def connect(self, sock: Any = None) -> None:
        if self.unix_socket and sock is None:
            sock = self._openUnixSocket(self.unix_socket)
        self._prepared: dict[str, PreparedStatement] = {}
        self._isPreparing = True
        self._unanswered: deque[int] = deque()  # the number of each one's answer
        super().connect(sock)

    def _openUnixSocket(self, path: Any) -> socket.socket:
        """What PyMySQL does, and closed where it fails."""
        opened = socket.socket(socket.AF_UNIX)
        try:
            opened.settimeout(self.connect_timeout)
            opened.connect(path)
        except OSError as error:
            opened.close()
            raise pymysql.OperationalError(
                CR.CR_CONNECTION_ERROR, f"Can't connect to {path!r} ({error})"
            ) from error
        self._secure = True
        return opened

    def query(self, sql: Any, unbuffered: bool = False) -> int:
        if isinstance(sql, str):
            sql = sql.encode(self.encoding)  # what is no character is an error
        self.readAnswers()
        self._check(sql)
        return super().query(sql, unbuffered)

    def command(self, command: int, octets: bytes) -> None:
        """Send what is no query; the answer is still to be read."""
        self._check(octets)
        self._execute_command(command, octets)

    @contextmanager
    def pipelined(self) -> Iterator[None]:
        """Within, prepared statements are sent before the one ahead of them is answered.

        The first failure among them is raised by whatever else is asked within, or at the end. The
        server works while the next one is made: 90 messages of 4 KiB take 3.4 ms, not 5.7. MySQL,
        and whatever speaks as it, is asked one by one: some take one command at a time.
        """
        self.isPipelined = "MariaDB" in self.server_version
        try:
            yield
        finally:
            self.isPipelined = False
            self.readAnswers()

    def send(self, command: int, octets: bytes) -> None:
        """Send what is answered by a result, for `readAnswers`."""
        if len(self._unanswered) == MAX_UNANSWERED:
            self.readAnswers()
        self.command(command, octets)
        self._unanswered.append(self._next_seq_id)

    def readAnswers(self) -> None:
        """Read all that is still to be answered; raises the first failure, once all is read."""
        failure: pymysql.Error | None = None
        while self._unanswered and self._sock is not None:
            self._next_seq_id = self._unanswered.popleft()
            self._limit()
            try:
                self._read_query_result()
            except pymysql.Error as error:
                failure = failure or error
        self._unanswered.clear()
        if failure is not None:
            raise failure

    def _check(self, octets: bytes) -> None:
        if len(octets) >= self.largest:
            # The server would hang up without a word.
            raise pymysql.DataError(
                ER.NET_PACKET_TOO_LARGE,
                f"a statement of {len(octets)} octets; max_allowed_packet is {self.largest}",
            )
        self._limit()

    def prepared(self, query: str) -> PreparedStatement | None:
        """An INSERT of values, prepared once; None where the server takes no more statements."""
        statement = self._prepared.get(query)
        if statement is None and self._isPreparing:
            self.readAnswers()
            try:
                statement = self._prepared[query] = PreparedStatement(self, query)
            except pymysql.Error as error:
                if error.args[0] != ER.MAX_PREPARED_STMT_COUNT_REACHED:
                    raise
                self._isPreparing = False
        return statement

    def commit(self) -> None:
        self._limit()
        super().commit()

    def rollback(self) -> None:
        self._limit()
        super().rollback()

    def _limit(self) -> None:
        """Have reads and writes time out right before the deadline; in steps, as each costs."""
        left = self.deadline - time.monotonic()
        timeout = None if left == math.inf else max(math.floor(left / _LEAST) * _LEAST, _LEAST)
        self._read_timeout = self._write_timeout = timeout

    def isReadable(self) -> bool:
        """Whether the server has said something unasked: it has closed, or is about to."""
        if self._sock is None:
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(0))

    def look(self, requireDurable: bool) -> None:
        """Finish the session's settings and learn the server's; may raise NotDurable."""
        txn = self.cursor()
        txn.execute(_ISOLATION)
        txn.execute(_SETTINGS_ASKED)
        [(largest, flush, hasBinlog, sync)] = txn.fetchall()
        txn.execute("SHOW VARIABLES LIKE 'wsrep_on'")
        if [value for _, value in txn.fetchall()] == ["ON"]:
            # A node of Galera: what was committed on another is read here only after a wait.
            txn.execute("SET SESSION wsrep_sync_wait = 1")
        self.largest = int(largest)
        self.durability = Durability(int(flush), bool(hasBinlog), int(sync))
        if requireDurable and self.durability.weaknesses:
            raise NotDurable("; ".join(map(str, self.durability.weaknesses)))
