"""smtpstore message delete and message purge: what goes, and what stays for others"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from cli.stored import put
from mailsrv.smtp.message import BytesContent, Forward, Recipient

pytestmark = pytest.mark.databases

BOB = Recipient("bob@example.com", 1)
ANN = Recipient("ann@example.com", 2)


@pytest.fixture
def shell(shell):
    shell.ok("user", "add", "bob@example.com")
    shell.ok("user", "add", "ann@example.com")
    return shell


def old(shell, number: int, days: float = 40, **fields) -> str:
    return put(shell, number, receivedAt=datetime.now(UTC) - timedelta(days=days), **fields)


def ids(shell, *filters: str) -> list[str]:
    return sorted(row["id"] for row in shell.rows("message", "list", *filters))


def purged(shell, *arguments: str) -> dict:
    [told] = shell.rows("message", "purge", *arguments)
    return told


# delete


def test_deletedMessagesAreGoneWithAllTheirRows(shell):
    one, two, three = (
        put(shell, 1, content=BytesContent(b"x" * 3_000_000)),
        put(shell, 2),
        put(shell, 3),
    )
    assert shell.ok("message", "delete", one, two.lower()) == "2 messages deleted\n"
    assert ids(shell) == [three]
    assert shell.sql("SELECT COUNT(*) FROM message_parts") == [(0,)]
    assert shell.sql("SELECT message_id FROM recipients") == [(three,)]
    assert shell.rows("message", "delete", three) == [{"id": three}]


def test_withAnUnknownIdNoneIsDeleted(shell):
    one = put(shell, 1)
    assert "there is no message 01X; see" in shell.complaint("message", "delete", one, "01X")
    assert ids(shell) == [one]


def test_moreThanABatchIsStillAllOrNothing(shell, monkeypatch):
    monkeypatch.setattr("mailsrv.cli.message._BATCH", 2)
    stored = [put(shell, number) for number in range(5)]
    shell.complaint("message", "delete", *stored, "01X")
    assert ids(shell) == stored
    assert shell.ok("message", "delete", *stored) == "5 messages deleted\n"
    assert ids(shell) == []


def test_whatStillWaitsToBeSentOnIsNotDeleted(shell):
    id = put(shell, forwards=(Forward("x@else.org", "x@else.org"),))
    line = shell.complaint("message", "delete", id)
    assert f"smtpstore queue list --message {id}" in line
    [row] = shell.rows("queue", "list", "--message", id)
    shell.ok("queue", "remove", str(row["id"]))
    shell.ok("message", "delete", id)
    assert ids(shell) == []


def test_deleteWithoutIdsIsAWrongUse(shell):
    assert shell.run("message", "delete").exit_code == 2


# purge


def test_onlyWhatIsOldGoes(shell):
    old(shell, 1), old(shell, 2, 31)
    young = old(shell, 3, 29)
    assert shell.ok("message", "purge", "--older-than", "30") == "2 messages deleted\n"
    assert ids(shell) == [young]
    assert purged(shell, "--older-than", "0") == {"purged": 1, "deleted": 1, "waiting": 0}


def test_itGoesInBoundedBatches(shell, monkeypatch):
    monkeypatch.setattr("mailsrv.cli.message._BATCH", 3)
    for number in range(8):
        old(shell, number, recipients=(BOB,))
    sizes = []
    from mailsrv.store.queries.mailboxes import purgeTxn

    def noting(txn, before, limit):
        sizes.append(step := purgeTxn(txn, before, limit))
        return step

    monkeypatch.setattr("mailsrv.cli.message.purgeTxn", noting)
    assert purged(shell, "--older-than", "1")["deleted"] == 8
    assert [step.deleted for step in sizes] == [3, 3, 2, 0]


def test_outOfOneMailbox_othersKeepTheirs(shell, monkeypatch):
    monkeypatch.setattr("mailsrv.cli.message._BATCH", 2)
    both = old(shell, 1, recipients=(BOB, ANN))
    ann = old(shell, 2, recipients=(ANN,))
    aliased = old(shell, 3, recipients=(Recipient("sales@example.com", 1),))
    young = old(shell, 4, 1, recipients=(BOB,))
    twice = old(shell, 5, recipients=(BOB, Recipient("sales@example.com", 1)))
    assert ids(shell, "--to", "bob@example.com") == [both, aliased, young, twice]
    assert shell.ok("message", "purge", "--older-than", "30", "--to", "BOB@example.com") == (
        "2 messages deleted, 1 kept for others\n"
    )
    assert ids(shell) == [both, ann, young]
    assert ids(shell, "--to", "bob@example.com") == [young]
    assert ids(shell, "--to", "ann@example.com") == [both, ann]
    assert purged(shell, "--older-than", "30", "--to", "ann@example.com") == {
        "purged": 2, "deleted": 2, "waiting": 0
    }  # fmt: skip


def test_inASinkTheAddressIsTheMailbox(shell):
    both = old(shell, 1, recipients=(Recipient("a@x.org"), Recipient("b@x.org")))
    old(shell, 2, recipients=(Recipient("a@x.org"),))
    assert purged(shell, "--older-than", "1", "--to", "A@x.org")["deleted"] == 1
    assert ids(shell) == [both]


def test_theMailOfAUserWhoWasRemovedIsStillThatAddressesOwn(shell):
    old(shell, 1, recipients=(BOB,))
    shell.ok("user", "remove", "bob@example.com")
    assert purged(shell, "--older-than", "1", "--to", "bob@example.com")["deleted"] == 1


@pytest.mark.parametrize("box", [(), ("--to", "bob@example.com")])
def test_whatStillWaitsForSomethingIsLeft(shell, box):
    forwards = (Forward("x@else.org", "bob@example.com"),)
    queued = old(shell, 1, recipients=(BOB,), forwards=forwards)
    toldOf = old(shell, 2, recipients=(BOB,))
    done = old(shell, 3, recipients=(BOB,), forwards=forwards)
    shell.sql("UPDATE queue SET state = 'sent' WHERE message_id = ?", done)
    shell.sql(
        "INSERT INTO events (message_id, destination, next_attempt_at, created_at)"
        " VALUES (?, 'x', '2026-01-01', '2026-01-01')", toldOf,
    )  # fmt: skip
    assert shell.ok("message", "purge", "--older-than", "30", *box) == (
        "1 message deleted, 2 left as they wait for something\n"
    )
    assert ids(shell, "--to", "bob@example.com") == [queued, toldOf]
    shell.sql("UPDATE queue SET state = 'failed'")
    shell.sql("UPDATE events SET state = 'delivered'")
    assert purged(shell, "--older-than", "30", *box) == {
        "purged": 2, "deleted": 2, "waiting": 0
    }  # fmt: skip


def test_aMailboxThatIsNotThereIsSaidSo(shell):
    line = shell.complaint("message", "purge", "--older-than", "1", "--to", "nobody@x.org")
    assert "there is no mailbox nobody@x.org here" in line


@pytest.mark.parametrize("days", ["-1", "x", "1000000"])
def test_daysThatAreNoneAreAWrongUse(shell, days):
    assert shell.run("message", "purge", "--older-than", days).exit_code == 2
