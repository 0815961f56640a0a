"""An outbox on a real SQLite file that answers on the spot, so that tests need no reactor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from mailsrv.interfaces import Event
from mailsrv.smtp.message import Message, Recipient
from mailsrv.store.dialect import SqliteDialect
from mailsrv.store.migrate import upgrade
from mailsrv.store.queries import rowsTxn
from mailsrv.store.queries.events import insertEventsTxn
from mailsrv.store.queries.messages import insertMessagesTxn
from mailsrv.store.queries.recipients import insertRecipientsTxn
from mailsrv.store.sqlevents import SqlEvents
from mailsrv.testing import makeMessage

EPOCH = datetime(2026, 1, 1, tzinfo=UTC)


class InstantPool:
    """Runs interactions here and now; fails with what `errors` holds, first to last."""

    def __init__(self, dialect: SqliteDialect) -> None:
        self.dialect = dialect
        self.connection = dialect.connect()
        self.errors: list[Exception] = []
        self.interactions = 0

    def runInteraction(self, interaction: Callable[..., Any], *args: Any) -> Deferred[Any]:
        self.interactions += 1
        if self.errors:
            return fail(self.errors.pop(0))
        try:
            result = interaction(self.connection.cursor(), *args)
            self.connection.commit()
        except BaseException:
            self.connection.rollback()
            raise
        return succeed(result)


class Outbox:
    """The tables, a server's view of them (`events`), and what tests ask of them."""

    def __init__(self, path: Path, seconds: Callable[[], float] = lambda: 0.0) -> None:
        self._seconds = seconds
        self.dialect = SqliteDialect(path / "mail.db")
        upgrade(self.dialect)
        self.pool = InstantPool(self.dialect)
        self.events = self.server()

    def now(self) -> datetime:
        return EPOCH + timedelta(seconds=self._seconds())

    def server(self) -> SqlEvents:
        """One more server on the same tables."""
        return SqlEvents(self.pool, self.now)

    def put(self, *messages: Message, to: Sequence[str] = ("app",)) -> None:
        """Store messages that are events for these destinations, in one transaction."""
        txn = self.pool.connection.cursor()
        insertMessagesTxn(txn, messages)
        insertRecipientsTxn(txn, messages)
        insertEventsTxn(txn, messages, to)
        self.pool.connection.commit()

    def rows(self, sql: str = "SELECT * FROM events ORDER BY id", *values: Any) -> list[Any]:
        txn = self.pool.connection.cursor()
        txn.execute(sql, values)
        rows = rowsTxn(txn)
        self.pool.connection.commit()
        return rows

    def states(self) -> list[str]:
        return [row["state"] for row in self.rows()]

    def lanes(self) -> int:
        return self.rows("SELECT count(*) AS n FROM event_lanes")[0]["n"]


def mail(*recipients: str | int, **changes: Any) -> Message:
    """A message to addresses, or to the mailboxes of users."""
    return makeMessage(
        recipients=tuple(
            Recipient(f"user{each}@example.com", each) if isinstance(each, int) else Recipient(each)
            for each in recipients or ("bob@example.com",)
        ),
        receivedAt=EPOCH,
        **changes,
    )


def ids(events: Sequence[Event]) -> list[str]:
    return [event.id for event in events]
