"""Messages for tests: made up, read back, and contents that are slow or broken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from ulid import ULID

from mailsrv.smtp.message import BytesContent, Forward, Message, Recipient, Summary
from mailsrv.store.dialect import Dialect
from mailsrv.store.queries import Row, Txn, parseTime
from mailsrv.store.queries.messages import contentTxn, messageTxn
from mailsrv.store.queries.queue import queueTxn
from mailsrv.store.queries.recipients import recipientsTxn


def makeMessage(octets: bytes = b"Subject: hello\r\n\r\nHi.\r\n", **changes: Any) -> Message:
    """A message to one recipient with an id of its own; `changes` are fields of Message."""
    message = Message(
        id=str(ULID()),
        receivedAt=datetime.now(UTC),
        sender="alice@example.org",
        recipients=(Recipient("bob@example.com"),),
        content=BytesContent(octets),
    )
    return replace(message, **changes)


class CountingContent(BytesContent):
    """Counts how often it is closed."""

    def __init__(self, octets: bytes) -> None:
        super().__init__(octets)
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class GatedContent(CountingContent):
    """Is read by a database thread only once `gate` is set; closed meanwhile, it complains.

    `wanted` is set when the thread has come to read it.
    """

    def __init__(self, octets: bytes) -> None:
        super().__init__(octets)
        self.gate = threading.Event()
        self.wanted = threading.Event()

    def head(self, limit: int) -> bytes:
        self.wanted.set()
        assert self.gate.wait(20), "nobody opened the gate"
        assert not self.closed, "closed while it was read"
        return super().head(limit)


class BrokenContent(CountingContent):
    """Cannot be read beyond its first `readable` octets."""

    def __init__(self, octets: bytes, readable: int) -> None:
        super().__init__(octets)
        self.readable = readable

    def head(self, limit: int) -> bytes:
        return b"".join(self.pieces(limit))[:limit] if self.size <= limit else self._read(0, limit)

    def pieces(self, size: int, offset: int = 0) -> Iterator[bytes]:
        for start in range(offset, self.size, size):
            yield self._read(start, size)

    def _read(self, start: int, size: int) -> bytes:
        if min(start + size, self.size) > self.readable:
            raise OSError("the spool cannot be read")
        return self.octets[start : start + size]


def readMessageTxn(txn: Txn, id: str) -> Message | None:
    """A message out of the tables, as it was given to the store."""
    row = messageTxn(txn, id)
    if row is None:
        return None
    date = None if row["date"] is None else parseTime(row["date"])
    return Message(
        id=row["id"],
        receivedAt=parseTime(row["received_at"]),
        sender=row["sender"],
        recipients=tuple(_recipient(recipient) for recipient in recipientsTxn(txn, id)),
        content=BytesContent(b"".join(contentTxn(txn, id))),
        forwards=tuple(_forward(forward) for forward in queueTxn(txn, id)),
        summary=Summary(row["subject"], date, row["body"], row["msg_id"]),
        parameters=row["parameters"],
        helo=row["helo"],
        peer=row["peer"],
        protocol=row["protocol"],
        trace=row["trace"].encode(),
    )


def _recipient(row: Row) -> Recipient:
    return Recipient(row["address"], row["user_id"], row["parameters"])


def _forward(row: Row) -> Forward:
    return Forward(row["address"], row["recipient"], row["parameters"])


def readMessage(dialect: Dialect, id: str) -> Message | None:
    """The same over a connection of its own; blocking."""
    connection = dialect.connect()
    try:
        return readMessageTxn(connection.cursor(), id)
    finally:
        connection.close()
