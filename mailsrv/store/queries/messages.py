"""The tables `messages` and `message_parts`: what was received."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any

from mailsrv.smtp.message import Message, Summary
from mailsrv.store.queries import Row, Txn, insertTxn, marks, rowsTxn, timeText
from mailsrv.store.queries.recipients import addressKey

PART = 1 << 20  # octets in messages.data, and in each row of message_parts
MAX_SUBJECT = 1000  # characters
MAX_BODY = 65_536

_LISTED = (
    "id", "received_at", "sender", "size", "protocol", "peer", "helo", "parameters", "sha256",
    "date", "msg_id", "subject",
)  # fmt: skip
_COLUMNS = (*_LISTED, "trace", "body")
_INTO = f"INSERT INTO messages ({', '.join(_LISTED)}, trace, body_text, body_start, data)"
_INSERT_PART = "INSERT INTO message_parts (message_id, seq, data) VALUES (?, ?, ?)"
# GROUP BY: DISTINCT makes MariaDB write the whole mailbox into a temporary table first.
_LIST = "SELECT {columns} FROM {tables} WHERE {where} GROUP BY {id} ORDER BY {id} DESC LIMIT ?"
_SEARCH = "(m.subject LIKE ? ESCAPE '!' OR m.body LIKE ? ESCAPE '!')"
# What is walked down, newest first: the tables, and the column whose index gives the order.
_ALL = ("messages m", "m.id")
_BY_RECIPIENT = ("recipients r JOIN messages m ON m.id = r.message_id", "r.message_id")


def insertMessagesTxn(txn: Txn, messages: Sequence[Message]) -> None:
    """Write messages and their parts; content over 1 MiB is read piece by piece."""
    insertTxn(txn, _INTO, map(_row, messages), len(messages))
    for message in messages:
        if message.content.size > PART:
            for seq, piece in enumerate(message.content.pieces(PART, PART), 1):
                txn.execute(_INSERT_PART, (message.id, seq, piece))


def _row(message: Message) -> tuple[Any, ...]:
    content, summary = message.content, message.summary
    date, subject = summary.date, summary.subject
    data = content.head(PART)
    start = _startOf(summary, data)
    body = summary.body if start is None else None
    return (
        message.id,
        timeText(message.receivedAt),
        message.sender,
        content.size,
        message.protocol,
        message.peer,
        message.helo,
        message.parameters,
        content.sha256,
        date and timeText(date),
        summary.messageId,
        subject and subject[:MAX_SUBJECT],
        message.trace.decode("utf-8", "replace"),
        body and body[:MAX_BODY],
        start,
        data,
    )


def _startOf(summary: Summary, data: bytes) -> int | None:
    """Where the body begins, if `data` ends with it as it is, its line ends CRLF; 1 is the start.

    Most small mail is plain text. To store it once halves what is stored, and a row of 4 KiB stays
    in its page: on MariaDB 1.1 times as many a second. 3 µs where the octets are made anew.
    """
    octets = summary.ending
    if octets is None:
        body = summary.body
        # One at the limit was cut; SQLite's functions take NUL to end a text; and of each line end
        # the table makes LF.
        if not body or len(body) >= MAX_BODY or "\0" in body or "\r" in body:
            return None
        try:
            octets = body.replace("\n", "\r\n").encode()
        except UnicodeEncodeError:
            return None
    # Of empty data SQLite's substr makes NULL.
    return len(data) - len(octets) + 1 if octets and data.endswith(octets) else None


def findIdsTxn(txn: Txn, ids: Collection[str], locking: str = "") -> set[str]:
    """Those of `ids` that are stored; `locking` is the dialect's clause for a locking read."""
    txn.execute(f"SELECT id FROM messages WHERE id IN ({marks(len(ids))}){locking}", tuple(ids))  # noqa: S608
    return {row[0] for row in txn.fetchall()}


def deleteMessagesTxn(txn: Txn, ids: Collection[str]) -> int:
    """Remove messages with their parts, recipients and queue rows; how many there were."""
    txn.executemany("DELETE FROM messages WHERE id = ?", [(id,) for id in ids])
    return txn.rowcount


def listMessagesTxn(
    txn: Txn,
    to: str | None = None,
    sender: str | None = None,
    since: datetime | None = None,
    search: str | None = None,
    before: str | None = None,
    limit: int = 100,
) -> list[Row]:
    """The newest messages first, without trace, body and content.

    `to`: a recipient's address, or the address of the user whose mailbox holds it. `sender`: the
    reverse-path. `since`: aware, UTC. `search`: a part of the subject or the body, A-Z folded.
    `before`: the last id of the page before.
    """
    conditions: list[tuple[Any, ...]] = []
    if sender is not None:
        conditions.append(("lower(m.sender) = lower(?)", sender))
    if since is not None:
        conditions.append(("m.received_at >= ?", timeText(since)))
    if search is not None:
        part = "%" + re.sub("([%_!])", r"!\1", search) + "%"
        conditions.append((_SEARCH, part, part))
    if before is not None:
        conditions.append(("{id} < ?", before))
    if to is None:
        return _listTxn(txn, _ALL, conditions, limit)
    # Two walks down an index each, so that a page costs a page however large the mailbox is.
    key = addressKey(to)
    named = _listTxn(txn, _BY_RECIPIENT, [*conditions, ("r.address_key = ?", key)], limit)
    txn.execute("SELECT id FROM users WHERE address_key = ?", (key,))
    user = txn.fetchone()
    if user is None:
        return named
    held = _listTxn(txn, _BY_RECIPIENT, [*conditions, ("r.user_id = ?", user[0])], limit)
    both = {row["id"]: row for row in (*named, *held)}
    return sorted(both.values(), key=lambda row: str(row["id"]), reverse=True)[:limit]


def _listTxn(
    txn: Txn, walk: tuple[str, str], conditions: list[tuple[Any, ...]], limit: int
) -> list[Row]:
    tables, id = walk
    columns = ", ".join([f"{id} AS id", *(f"m.{name}" for name in _LISTED[1:])])
    where = " AND ".join(text.format(id=id) for text, *_ in conditions) or "1 = 1"
    sql = _LIST.format(columns=columns, tables=tables, where=where, id=id)
    txn.execute(sql, (*(value for _, *values in conditions for value in values), limit))
    return rowsTxn(txn)


def messageTxn(txn: Txn, messageId: str) -> Row | None:
    """One message, all columns but `data`; None where there is none."""
    txn.execute(f"SELECT {', '.join(_COLUMNS)} FROM messages WHERE id = ?", (messageId,))  # noqa: S608
    rows = rowsTxn(txn)
    return rows[0] if rows else None


def contentTxn(txn: Txn, messageId: str) -> Iterator[bytes]:
    """The exact octets of a message, at most 1 MiB at a time; nothing where there is none.

    To be read to its end within the transaction.
    """
    txn.execute("SELECT size, data FROM messages WHERE id = ?", (messageId,))
    row = txn.fetchone()
    if row is None:
        return
    size, data = row
    yield data
    for seq in range(1, -(-size // PART)):
        txn.execute(
            "SELECT data FROM message_parts WHERE message_id = ? AND seq = ?", (messageId, seq)
        )
        yield txn.fetchone()[0]
