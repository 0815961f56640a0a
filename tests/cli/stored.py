"""Messages in a database, put there as the server does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mailsrv.smtp.message import BytesContent, Message, Recipient, Summary
from mailsrv.store.queries.messages import insertMessagesTxn
from mailsrv.store.queries.queue import insertQueueTxn
from mailsrv.store.queries.recipients import insertRecipientsTxn

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)
OCTETS = b"Subject: Hello\r\n\r\n\xff\x00 lone \n and \r\r\n"
TRACE = b"Return-Path: <ann@else.org>\r\nReceived: from x\r\n"
NASTY = [
    b"",
    b"x",
    b"\r\n\r\n",
    b"Subject: a\r\n\r\nFrom here\r\n>From there\r\n>>From\r\n",
    b"From a Thu Jan  1 12:00:00 2026 01J00000000000000000000000\n",
    b"no end\r",
    b"\0\xff\r\r\n\n\r",
    b"\nFrom x 12:00",
    bytes(range(256)) * 6000 + b"\nFrom x",
]


def put(shell, number=1, **fields):
    """Store a message as the server does; its id."""
    values = {
        "id": f"01J{number:023d}",
        "receivedAt": NOON + timedelta(days=number),
        "sender": "Ann@else.org",
        "recipients": (Recipient("bob@example.com"),),
        "content": BytesContent(OCTETS),
        "summary": Summary("Hello", NOON, "Dear Bob,\nyours", "<1@else.org>"),
        "trace": TRACE,
        **fields,
    }
    message = Message(**values)
    connection = shell.dialect.connect()
    txn = connection.cursor()
    insertMessagesTxn(txn, [message])
    insertRecipientsTxn(txn, [message])
    insertQueueTxn(txn, [message])
    connection.commit()
    connection.close()
    return message.id
