"""The SQL: one file a table, functions `…Txn(txn, …)` that run in a database thread.

Statements are written once, with `?` for parameters; where a driver wants another style, its
dialect's cursor translates. Times go in and out as text, `YYYY-MM-DD HH:MM:SS.ffffff`, UTC.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from itertools import chain, islice
from typing import Any, Protocol

Row = dict[str, Any]

# Each number of rows is a statement that the database keeps, and SQLite with it the rows it had
# last; an older SQLite takes no more than 999 parameters.
_MOST_ROWS = 32


class Txn(Protocol):
    """A cursor in an open transaction, as `ConnectionPool.runInteraction` hands it out."""

    @property
    def rowcount(self) -> int:
        """Rows the last statement changed."""

    @property
    def lastrowid(self) -> int | None:
        """The id the last INSERT was given."""

    @property
    def description(self) -> Any:
        """The columns of the last SELECT; the name is each one's first item."""

    def execute(self, sql: str, parameters: Sequence[Any] = ..., /) -> Any:
        """Run one statement."""

    def executemany(self, sql: str, rows: Iterable[Sequence[Any]], /) -> Any:
        """Run one statement for each row of parameters."""

    def fetchone(self) -> Any:
        """The next row, or None."""

    def fetchall(self) -> Sequence[Any]:
        """All rows that are left."""

    def close(self) -> None:
        """Done with it; the transaction stays open."""


def rowsTxn(txn: Txn) -> list[Row]:
    """All rows of the last SELECT, the columns' names as keys."""
    names = [column[0] for column in txn.description]
    return [dict(zip(names, row, strict=True)) for row in txn.fetchall()]


def insertTxn(txn: Txn, into: str, rows: Iterable[Sequence[Any]], count: int) -> None:
    """Insert `count` rows, many to a statement; `into` is INSERT INTO table (columns).

    Each is taken when its statement is made, so that the database may be at work on the one before.

    At each statement the thread lets others run and has to wait for its turn again, which costs
    more than the statement when the reactor is busy; and a database elsewhere costs a journey.
    Texts are made `clean` only where the driver refuses one: there are a dozen in a message.
    """
    rows = iter(rows)
    while count:
        chunk = list(islice(rows, min(count, _MOST_ROWS)))
        count -= len(chunk)
        statement = _insert(into, len(chunk[0]), len(chunk))
        values = list(chain.from_iterable(chunk))
        try:
            txn.execute(statement, values)
        except UnicodeEncodeError:
            txn.execute(statement, [clean(v) if isinstance(v, str) else v for v in values])


@lru_cache(maxsize=256)
def _insert(into: str, columns: int, rows: int) -> str:
    row = f"({marks(columns)})"
    return f"{into} VALUES {', '.join([row] * rows)}"


def marks(count: int) -> str:
    """`count` parameters for IN (…)."""
    return ", ".join("?" * count)


def timeText(time: datetime) -> str:
    """A time, aware and UTC, as it stands in the tables."""
    return time.isoformat(" ", "microseconds")[:26]


def parseTime(text: str) -> datetime:
    """A time out of the tables, aware, UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def clean(text: str) -> str:
    """`text` as a database takes it: what is no character (a lone surrogate) becomes U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
