"""Reading and removing what is stored."""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailsrv.smtp.message import Forward, Message, Recipient, Summary
from mailsrv.store.dialect import SqliteDialect
from mailsrv.store.migrate import upgrade
from mailsrv.store.queries import parseTime, timeText
from mailsrv.store.queries.messages import (
    PART,
    contentTxn,
    deleteMessagesTxn,
    insertMessagesTxn,
    listMessagesTxn,
    messageTxn,
)
from mailsrv.store.queries.queue import insertQueueTxn
from mailsrv.store.queries.recipients import addressKey, insertRecipientsTxn, recipientsTxn
from mailsrv.testing import makeMessage

NOON = datetime(2026, 5, 1, 12, 0, 0, 250, UTC)


@pytest.fixture
def txn(tmp_path: Path) -> Iterator[sqlite3.Cursor]:
    dialect = SqliteDialect(tmp_path / "mail.db")
    upgrade(dialect)
    connection = dialect.connect()
    yield connection.cursor()
    connection.close()


def insert(txn: sqlite3.Cursor, *messages: Message) -> None:
    insertMessagesTxn(txn, messages)
    insertRecipientsTxn(txn, messages)
    insertQueueTxn(txn, messages)


SUMMARIES = {3: Summary("It is 100%_!"), 4: Summary("x", body="Lunch?"), 1: Summary("lunch")}


def to(number: int, *recipients: Recipient, sender: str = "a@x") -> Message:
    return makeMessage(
        id=f"{number:026d}",
        summary=SUMMARIES.get(number, Summary()),
        receivedAt=NOON + timedelta(minutes=number),
        recipients=recipients,
        sender=sender,
    )


def numbers(rows: list[dict[str, object]]) -> list[int]:
    return [int(str(row["id"])) for row in rows]


@pytest.fixture
def some(txn: sqlite3.Cursor) -> sqlite3.Cursor:
    """Bob is user 1; group@x goes to bob and to carl, who is no user any more."""
    txn.execute("INSERT INTO users (id, address) VALUES (1, 'Bob@x')")
    insert(
        txn,
        to(1, Recipient("bob@x", 1)),
        to(2, Recipient("group@x", 1), Recipient("group@x", 2)),
        to(3, Recipient("sink@x"), sender="Zoë@X"),
        to(4, Recipient("bob@x", 1), Recipient("sales@x", 1)),
        to(5, Recipient("BOB@X", None), sender="A@X"),
    )
    return txn


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, [5, 4, 3, 2, 1]),
        ({"limit": 2}, [5, 4]),
        ({"limit": 2, "before": f"{4:026d}"}, [3, 2]),
        ({"to": "bob@x"}, [5, 4, 2, 1]),
        ({"to": "BOB@X", "limit": 2}, [5, 4]),
        ({"to": "bob@x", "limit": 2, "before": f"{4:026d}"}, [2, 1]),
        ({"to": "group@x"}, [2]),
        ({"to": "sales@x"}, [4]),
        ({"to": "nobody@x"}, []),
        ({"to": "%"}, []),
        ({"sender": "a@X"}, [5, 4, 2, 1]),
        ({"sender": "zoë@x"}, [3]),
        ({"since": NOON + timedelta(minutes=4)}, [5, 4]),
        ({"search": "100%_!"}, [3]),
        ({"search": "LUNCH", "limit": 1}, [4]),
        ({"search": "100!"}, []),
        ({"since": NOON + timedelta(minutes=2), "to": "bob@x", "sender": "a@x"}, [5, 4, 2]),
    ],
)
def test_a_list_shows_the_newest_first_and_each_message_once(
    some: sqlite3.Cursor, filters: dict[str, object], expected: list[int]
) -> None:
    assert numbers(listMessagesTxn(some, **filters)) == expected  # type: ignore[arg-type]


def test_a_list_reads_no_content_but_tells_all_else(txn: sqlite3.Cursor) -> None:
    message = makeMessage(b"octets", receivedAt=NOON, summary=Summary("s", NOON, "body", "<1>"))
    insert(txn, message)
    assert listMessagesTxn(txn) == [
        {
            "id": message.id,
            "received_at": "2026-05-01 12:00:00.000250",
            "sender": "alice@example.org",
            "size": 6,
            "protocol": "SMTP",
            "peer": "",
            "helo": "",
            "parameters": "",
            "sha256": hashlib.sha256(b"octets").hexdigest(),
            "date": "2026-05-01 12:00:00.000250",
            "msg_id": "<1>",
            "subject": "s",
        }
    ]


@pytest.mark.parametrize(
    ("filters", "index"),
    [
        ({"to": "bob@x"}, "recipients_address_key"),
        ({"since": NOON}, ""),
        ({"before": "x"}, "messages_1"),
    ],
)
def test_a_page_is_found_by_an_index(
    some: sqlite3.Cursor, filters: dict[str, object], index: str
) -> None:
    statements: list[str] = []
    some.connection.set_trace_callback(statements.append)
    listMessagesTxn(some, **filters)  # type: ignore[arg-type]
    some.connection.set_trace_callback(None)
    some.execute(f"EXPLAIN QUERY PLAN {statements[0]}")
    plan = " / ".join(row[3] for row in some.fetchall())
    assert index in plan
    assert "TEMP B-TREE FOR ORDER BY" not in plan


def test_one_message_and_its_recipients_are_read(some: sqlite3.Cursor) -> None:
    row = messageTxn(some, f"{2:026d}")
    assert row is not None
    assert (row["sender"], row["trace"], row["body"]) == ("a@x", "", None)
    assert "data" not in row
    assert recipientsTxn(some, f"{2:026d}") == [
        {"address": "group@x", "user_id": 1, "parameters": ""},
        {"address": "group@x", "user_id": 2, "parameters": ""},
    ]
    assert messageTxn(some, "nothing") is None
    assert list(contentTxn(some, "nothing")) == []


@pytest.mark.parametrize(
    ("octets", "body", "isStoredTwice"),
    [
        (b"Subject: x\r\n\r\nSo\r\ngr\xc3\xbcn\r\n", "So\ngrün\n", False),
        (b"\r\nnot all of it\r\n", "not all", True),
        (b"\r\nin =3D\r\n", "in =\n", True),
        (b"\r\nNUL \0 in it", "NUL \0 in it", True),
        (b"\r\n", "", True),
    ],
)
def test_a_text_that_ends_its_message_is_stored_once(
    txn: sqlite3.Cursor, octets: bytes, body: str, isStoredTwice: bool
) -> None:
    insert(txn, makeMessage(octets, summary=Summary(body=body)))
    txn.execute("SELECT body, body_text, data FROM messages")
    assert txn.fetchall() == [(body, body if isStoredTwice else None, octets)]


@pytest.mark.parametrize("size", [0, 1, PART, PART + 1, 2 * PART, 2 * PART + 5])
def test_content_comes_in_pieces_of_a_mebibyte(txn: sqlite3.Cursor, size: int) -> None:
    octets = bytes(range(251)) * (size // 251 + 1)
    message = makeMessage(octets[:size])
    insert(txn, message)
    pieces = list(contentTxn(txn, message.id))
    assert b"".join(pieces) == octets[:size]
    assert max(map(len, pieces)) <= PART
    txn.execute("SELECT count(*) FROM message_parts")
    assert txn.fetchone() == (max(0, -(-size // PART) - 1),)


def test_a_removed_message_leaves_nothing(txn: sqlite3.Cursor) -> None:
    forward = Forward("f@y", "bob@x")
    messages = [makeMessage(b"x" * (PART + 1), forwards=(forward,)) for _ in range(3)]
    insert(txn, *messages)
    assert deleteMessagesTxn(txn, [messages[0].id, messages[1].id, "nothing"]) == 2
    for table in ("messages", "message_parts", "recipients", "queue"):
        txn.execute(f"SELECT count(*) FROM {table}")
        assert txn.fetchone() == (1,), table


def test_a_queued_message_is_due_at_once_and_claimed_by_nobody(txn: sqlite3.Cursor) -> None:
    message = makeMessage(receivedAt=NOON, forwards=(Forward("f@y", "bob@x", "NOTIFY=NEVER"),))
    insert(txn, message)
    txn.execute(
        "SELECT message_id, address, recipient, parameters, state, attempts, next_attempt_at,"
        " claimed_by, claimed_until, last_reply, created_at FROM queue"
    )
    now = "2026-05-01 12:00:00.000250"
    assert txn.fetchall() == [
        (message.id, "f@y", "bob@x", "NOTIFY=NEVER", "waiting", 0, now, None, None, None, now)
    ]


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("Bob@EXAMPLE.com", "bob@example.com"),
        ("Zoë@Bücher.example", "zoë@xn--bcher-kva.example"),
        ("ÀÉ@x", "ÀÉ@x"),
        ("Postmaster", "postmaster"),
        ("no address At All", "no address at all"),
    ],
)
def test_addresses_are_looked_up_with_a_to_z_folded_only(address: str, key: str) -> None:
    assert addressKey(address) == key


def test_times_survive_the_tables_to_the_microsecond() -> None:
    for time in (NOON, datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)):
        assert parseTime(timeText(time)) == time
        assert len(timeText(time)) == 26
