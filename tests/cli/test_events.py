"""smtpstore events"""

from __future__ import annotations

import pytest

from mailsrv.smtp.message import Recipient
from mailsrv.store.queries.events import insertEventsTxn
from mailsrv.store.queries.messages import insertMessagesTxn
from mailsrv.store.queries.recipients import insertRecipientsTxn
from mailsrv.testing import makeMessage
from outbox import EPOCH

pytestmark = pytest.mark.databases

A, B = "https://a.example/mail", "https://b.example/mail"


@pytest.fixture
def put(shell):
    def put(count: int, *destinations: str) -> list[str]:
        """Store messages to one recipient; their ids."""
        messages = [
            makeMessage(receivedAt=EPOCH, recipients=(Recipient("bob@example.com", 1),))
            for _ in range(count)
        ]
        connection = shell.dialect.connect()
        txn = connection.cursor()
        insertMessagesTxn(txn, messages)
        insertRecipientsTxn(txn, messages)
        insertEventsTxn(txn, messages, destinations or (A,))
        connection.commit()
        connection.close()
        return [message.id for message in messages]

    return put


def kill(shell, where: str = "1 = 1") -> None:
    shell.sql(f"UPDATE events SET state = 'dead', attempts = 9, last_error = 'x' WHERE {where}")
    shell.sql("DELETE FROM event_lanes")


def test_events_are_listed_oldest_first_with_all_their_columns(shell, put):
    ids = put(2, A, B)
    rows = shell.rows("events", "list")
    assert [(row["message_id"], row["destination"]) for row in rows] == [
        (id, destination) for id in ids for destination in (A, B)
    ]
    assert rows[0] == {
        "id": 1,
        "message_id": ids[0],
        "destination": A,
        "state": "waiting",
        "attempts": 0,
        "next_attempt_at": "2026-01-01T00:00:00Z",
        "claimed_by": None,
        "claimed_until": None,
        "last_error": None,
        "created_at": "2026-01-01T00:00:00Z",
    }
    assert A in shell.ok("events", "list")


def test_the_list_is_narrowed_by_state_and_destination(shell, put):
    put(2, A, B)
    kill(shell, "id = 1")
    assert [row["id"] for row in shell.rows("events", "list", "--state", "dead")] == [1]
    assert [row["id"] for row in shell.rows("events", "list", "--destination", B)] == [2, 4]
    assert shell.rows("events", "list", "--state", "delivered") == []


def test_a_long_list_is_whole(shell, put):
    put(1100)
    assert [row["id"] for row in shell.rows("events", "list")] == list(range(1, 1101))


def test_an_error_of_a_receiver_does_not_drive_the_terminal(shell, put):
    put(1)
    shell.sql("UPDATE events SET last_error = ?", "\x1b[2J\n")
    assert "\x1b" not in shell.ok("events", "list")


def test_events_are_replayed_by_their_numbers_or_their_messages(shell, put):
    ids = put(4, A, B)
    kill(shell)
    rows = shell.rows("events", "replay", "3", ids[0].lower(), "3")
    assert [row["id"] for row in rows] == [1, 2, 3]
    assert {(row["state"], row["attempts"], row["last_error"]) for row in rows} == {
        ("waiting", 0, None)
    }
    assert rows[0]["next_attempt_at"] > "2026-01-01T00:00:01Z"
    # They are in their lanes again: one for destination A has two events.
    lanes = shell.sql("SELECT count(*) FROM event_lanes GROUP BY lane ORDER BY 1")
    assert lanes == [(1,), (2,)]


def test_all_dead_events_are_replayed_at_once(shell, put):
    put(600, A, B)
    kill(shell, "id > 20")
    assert len(shell.rows("events", "replay", "--dead", "--destination", B)) == 590
    assert len(shell.rows("events", "replay", "--dead")) == 590
    assert shell.rows("events", "replay", "--dead") == []
    assert len(shell.rows("events", "list", "--state", "waiting")) == 1200


def test_what_is_being_delivered_just_now_is_left_alone(shell, put):
    put(1)
    shell.sql("UPDATE events SET claimed_by = 'x', claimed_until = '2999-01-01'")
    assert "just being delivered" in shell.complaint("events", "replay", "1")


def test_what_to_replay_has_to_be_said(shell, put):
    put(1)
    assert "their IDs, or --dead" in shell.complaint("events", "replay")
    assert "their IDs, or --dead" in shell.complaint("events", "replay", "1", "--dead")
    assert "no such events" in shell.complaint("events", "replay", "7")
    for id in ("x", "-", "²", "9" * 19):
        assert "neither" in shell.complaint("events", "replay", id)
