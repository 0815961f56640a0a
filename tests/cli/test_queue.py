"""smtpstore queue"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mailsrv.smtp.message import Forward
from mailsrv.store.queries.messages import insertMessagesTxn
from mailsrv.store.queries.queue import insertQueueTxn
from mailsrv.testing import makeMessage

pytestmark = pytest.mark.databases

NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def put(shell, *addresses, **fields):
    """Queue a message for addresses elsewhere; its id."""
    message = makeMessage(
        receivedAt=NOON,
        forwards=tuple(
            Forward(address, "group@example.com", "NOTIFY=NEVER") for address in addresses
        ),
        **fields,
    )
    connection = shell.dialect.connect()
    insertMessagesTxn(connection.cursor(), [message])
    insertQueueTxn(connection.cursor(), [message])
    connection.commit()
    connection.close()
    return message.id


def ids(shell, *filters):
    return [row["id"] for row in shell.rows("queue", "list", *filters)]


def settle(shell, id, state):
    shell.sql(
        "UPDATE queue SET state = ?, attempts = 3, last_reply = '550 no',"
        " next_attempt_at = '2099-01-01 00:00:00.000000' WHERE id = ?",
        state,
        id,
    )


def test_whatWaitsIsListedOldestFirst(shell):
    put(shell, "ann@x.example", "bob@y.example")
    assert shell.ok("queue", "list").splitlines() == [
        "id  state    attempts  next_attempt_at       sender             address        last_reply",
        "1   waiting  0         2026-01-31T12:00:00Z  alice@example.org  ann@x.example",
        "2   waiting  0         2026-01-31T12:00:00Z  alice@example.org  bob@y.example",
    ]


def test_jsonHasTheColumnsNames(shell):
    id = put(shell, "Ann@BÜCHER.example", sender="")
    assert shell.rows("queue", "list") == [
        {
            "id": 1,
            "message_id": id,
            "sender": "",
            "address": "Ann@BÜCHER.example",
            "domain": "xn--bcher-kva.example",
            "recipient": "group@example.com",
            "parameters": "NOTIFY=NEVER",
            "state": "waiting",
            "attempts": 0,
            "next_attempt_at": "2026-01-31T12:00:00Z",
            "claimed_by": None,
            "claimed_until": None,
            "delay_reported": False,
            "last_reply": None,
            "created_at": "2026-01-31T12:00:00Z",
        }
    ]


def test_filters(shell):
    first = put(shell, "ann@x.example", "bob@bücher.example")
    put(shell, "ann@y.example")
    settle(shell, 3, "failed")
    assert ids(shell) == [1, 2]
    assert ids(shell, "--state", "failed") == [3]
    assert ids(shell, "--state", "sent") == []
    assert ids(shell, "--state", "all") == [1, 2, 3]
    assert ids(shell, "--to", "ANN@x.example") == [1]
    assert ids(shell, "--to", "group@example.com") == [1, 2]
    assert ids(shell, "--domain", "BÜCHER.example") == [2]
    assert ids(shell, "--message", first, "--state", "all") == [1, 2]
    assert ids(shell, "--message", "none") == []


def test_moreThanAPageIsListedOnceEach(shell, monkeypatch):
    monkeypatch.setattr("mailsrv.cli.queue._PAGE", 3)
    put(shell, *(f"u{number}@x.example" for number in range(7)))
    assert ids(shell) == [1, 2, 3, 4, 5, 6, 7]


def test_whatFailedOrWaitsIsDueNow(shell):
    put(shell, "a@x.example", "b@x.example", "c@x.example")
    settle(shell, 1, "failed")
    settle(shell, 2, "waiting")
    settle(shell, 3, "waiting")
    rows = shell.rows("queue", "retry", "1", "2")
    assert [(row["id"], row["state"], row["attempts"]) for row in rows] == [
        (1, "waiting", 3),
        (2, "waiting", 3),
    ]
    for row in rows:
        due = datetime.fromisoformat(row["next_attempt_at"])
        assert abs(datetime.now(UTC) - due) < timedelta(minutes=1)
    [(next,)] = shell.sql("SELECT next_attempt_at FROM queue WHERE id = 3")
    assert next.startswith("2099")


def test_allThatWaitsIsDueNow(shell):
    put(shell, "a@x.example", "b@x.example", "c@x.example")
    for id, state in ((1, "failed"), (2, "waiting"), (3, "sent")):
        settle(shell, id, state)
    assert shell.ok("queue", "retry", "--all") == "1 will be tried again now\n"
    assert shell.rows("queue", "retry", "--all") == [{"count": 1}]
    rows = shell.sql("SELECT state, next_attempt_at LIKE '2099%' FROM queue ORDER BY id")
    assert rows == [("failed", 1), ("waiting", 0), ("sent", 1)]
    assert shell.ok("queue", "retry", "1") == "1 will be tried again now\n"


@pytest.mark.parametrize("arguments", [(), ("1", "--all")])
def test_whichToRetryIsSaid(shell, arguments):
    put(shell, "a@x.example")
    assert "say which" in shell.complaint("queue", "retry", *arguments)


def test_whatIsRemovedIsGoneAndTheMessageStays(shell):
    id = put(shell, "a@x.example", "b@x.example", "c@x.example")
    assert shell.ok("queue", "remove", "1", "3", "1").splitlines() == [
        "id  state    address",
        "1   waiting  a@x.example",
        "3   waiting  c@x.example",
    ]
    assert ids(shell, "--state", "all") == [2]
    assert shell.sql("SELECT id FROM messages") == [(id,)]


def test_whatIsNotThereOrSentIsSaidSoAndNothingIsDone(shell):
    put(shell, "a@x.example", "b@x.example")
    settle(shell, 2, "sent")
    assert "queued as 9" in shell.complaint("queue", "remove", "1", "9")
    assert "queued as 9" in shell.complaint("queue", "retry", "9")
    assert "sent already" in shell.complaint("queue", "retry", "1", "2")
    assert ids(shell, "--state", "all") == [1, 2]
    [(next,)] = shell.sql("SELECT next_attempt_at FROM queue WHERE id = 1")
    assert next.startswith("2026-01-31")
