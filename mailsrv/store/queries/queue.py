"""The table `queue`: mail for addresses elsewhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mailsrv.smtp.message import Message
from mailsrv.store.queries import Row, Txn, clean, rowsTxn, timeText

_INSERT = (
    "INSERT INTO queue (message_id, address, recipient, parameters, next_attempt_at, created_at)"
    " VALUES (?, ?, ?, ?, ?, ?)"
)


def insertQueueTxn(txn: Txn, messages: Iterable[Message]) -> None:
    """Queue messages just written for the addresses elsewhere; they are due at once."""
    txn.executemany(_INSERT, _rows(messages))


def _rows(messages: Iterable[Message]) -> Iterator[tuple[Any, ...]]:
    for message in messages:
        now = timeText(message.receivedAt)
        for forward in message.forwards:
            address, recipient = clean(forward.address), clean(forward.recipient)
            yield message.id, address, recipient, clean(forward.parameters), now, now


def queueTxn(txn: Txn, messageId: str) -> list[Row]:
    """The queue rows of a message, in the order they were written."""
    txn.execute("SELECT * FROM queue WHERE message_id = ? ORDER BY id", (messageId,))
    return rowsTxn(txn)
