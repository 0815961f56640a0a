"""Whole mailboxes, over `messages` and `recipients`: walked through, filled, emptied.

A mailbox is that of a user; or what stands under an address and no user holds (a sink). It is
what the view `mailbox` shows under that address.
"""

# ruff: noqa: S608 - what is put together are the constants of this page
from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from mailsrv.smtp.message import Message
from mailsrv.store.queries import Row, Txn, clean, marks, rowsTxn, timeText
from mailsrv.store.queries.messages import insertMessagesTxn
from mailsrv.store.queries.recipients import addressKey, insertRecipientsTxn
from mailsrv.store.queries.users import userTxn

_NO_USER = "NOT EXISTS (SELECT 1 FROM users u WHERE u.id = recipients.user_id)"
_HELD = f"(recipients.user_id = ? OR (recipients.address_key = ? AND {_NO_USER}))"
# What is still to be sent, or the application still to be told of, is not to be lost.
_WAITS = """(
    EXISTS (SELECT 1 FROM queue q WHERE q.message_id = messages.id AND q.state = 'waiting')
    OR EXISTS (SELECT 1 FROM events e WHERE e.message_id = messages.id AND e.state = 'waiting'))"""
_WALKED = "id, received_at, sender, size, trace"


@dataclass(frozen=True, slots=True)
class MailboxName:
    """A mailbox: what its address is compared by, and its user's id (-1: there is no user)."""

    address: str
    key: str
    userId: int = -1

    @property
    def holder(self) -> int | None:
        """The user_id of a recipient whose mail this mailbox holds."""
        return None if self.userId < 0 else self.userId


@dataclass(frozen=True, slots=True)
class Purged:
    """What a batch of a purge did: `found` messages, of which `deleted` are gone for good."""

    found: int
    deleted: int


def mailboxTxn(txn: Txn, address: str) -> MailboxName | None:
    """The mailbox of an address; None where there is neither such a user nor such mail."""
    key = addressKey(address)
    user = userTxn(txn, key)
    if user is not None:
        return MailboxName(user.address, key, user.id)
    txn.execute(f"SELECT 1 FROM recipients WHERE address_key = ? AND {_NO_USER} LIMIT 1", (key,))
    return None if txn.fetchone() is None else MailboxName(address, key)


def hasUsersTxn(txn: Txn) -> bool:
    """Whether there is any user; without one the database is that of a sink."""
    txn.execute("SELECT 1 FROM users LIMIT 1")
    return txn.fetchone() is not None


# Walking through


def snapshotTxn(txn: Txn) -> None:
    """What is read from here on, to the transaction's end, is as it is now."""
    txn.execute("BEGIN")


def countTxn(txn: Txn, mailbox: MailboxName | None, after: str = "") -> int:
    """How many messages there are with ids behind `after`, in all or in a mailbox."""
    if mailbox is None:
        txn.execute("SELECT COUNT(*) FROM messages WHERE id > ?", (after,))
    else:
        txn.execute(
            f"SELECT COUNT(DISTINCT message_id) FROM recipients WHERE {_HELD} AND message_id > ?",
            (mailbox.userId, mailbox.key, after),
        )
    return int(txn.fetchone()[0])


def walkTxn(txn: Txn, mailbox: MailboxName | None, after: str, limit: int) -> list[Row]:
    """The next `limit` messages in order of their ids: id, received_at, sender, size, trace."""
    if mailbox is None:
        txn.execute(
            f"SELECT {_WALKED} FROM messages WHERE id > ? ORDER BY id LIMIT ?", (after, limit)
        )
        return rowsTxn(txn)
    # Two walks along an index each, so that a page costs a page however large the mailbox is.
    ids: set[str] = set()
    for condition, value in (
        ("user_id = ?", mailbox.userId),
        (f"address_key = ? AND {_NO_USER}", mailbox.key),
    ):
        txn.execute(
            f"SELECT DISTINCT message_id FROM recipients WHERE {condition} AND message_id > ?"
            " ORDER BY message_id LIMIT ?",
            (value, after, limit),
        )
        ids.update(row[0] for row in txn.fetchall())
    page = sorted(ids)[:limit]
    if not page:
        return []
    txn.execute(
        f"SELECT {_WALKED} FROM messages WHERE id IN ({marks(len(page))}) ORDER BY id", page
    )
    return rowsTxn(txn)


# Filling


def digestsTxn(txn: Txn, ids: Collection[str]) -> dict[str, str]:
    """The sha256 of those of the messages that are stored, by id."""
    if not ids:
        return {}
    txn.execute(f"SELECT id, sha256 FROM messages WHERE id IN ({marks(len(ids))})", tuple(ids))
    return {row[0]: row[1] for row in txn.fetchall()}


def heldTxn(txn: Txn, mailbox: MailboxName, ids: Collection[str]) -> set[str]:
    """Those of the messages that the mailbox holds."""
    if not ids:
        return set()
    txn.execute(
        f"SELECT DISTINCT message_id FROM recipients"
        f" WHERE {_HELD} AND message_id IN ({marks(len(ids))})",
        (mailbox.userId, mailbox.key, *ids),
    )
    return {row[0] for row in txn.fetchall()}


def addMessagesTxn(txn: Txn, messages: Sequence[Message]) -> None:
    """Write messages with their recipients; nothing is queued, and nobody told."""
    insertMessagesTxn(txn, messages)
    insertRecipientsTxn(txn, messages)


def holdTxn(txn: Txn, mailbox: MailboxName, ids: Iterable[str]) -> None:
    """Have the mailbox hold messages that are stored already."""
    for id in ids:
        txn.execute("SELECT MAX(seq) FROM recipients WHERE message_id = ?", (id,))
        seq = (txn.fetchone()[0] or 0) + 1
        txn.execute(
            "INSERT INTO recipients (message_id, seq, user_id, address, address_key, parameters)"
            " VALUES (?, ?, ?, ?, ?, '')",
            (id, seq, mailbox.holder, clean(mailbox.address), mailbox.key),
        )


# Emptying


def purgeTxn(txn: Txn, before: datetime, limit: int) -> Purged:
    """Delete at most `limit` messages received before then, the oldest first."""
    ids = _ids(
        txn,
        f"SELECT id FROM messages WHERE received_at < ? AND NOT {_WAITS}"
        " ORDER BY received_at LIMIT ?",
        (timeText(before), limit),
    )
    return Purged(len(ids), _deleteTxn(txn, ids))


def purgeMailboxTxn(txn: Txn, mailbox: MailboxName, before: datetime, limit: int) -> Purged:
    """Take at most `limit` messages received before then out of a mailbox; those that then have
    no recipient left are deleted."""
    ids = _ids(
        txn,
        f"SELECT DISTINCT messages.id FROM recipients JOIN messages"
        f" ON messages.id = recipients.message_id"
        f" WHERE {_HELD} AND messages.received_at < ? AND NOT {_WAITS} LIMIT ?",
        (mailbox.userId, mailbox.key, timeText(before), limit),
    )
    if ids:
        txn.execute(
            f"DELETE FROM recipients WHERE message_id IN ({marks(len(ids))}) AND {_HELD}",
            (*ids, mailbox.userId, mailbox.key),
        )
    left = "NOT EXISTS (SELECT 1 FROM recipients r WHERE r.message_id = messages.id)"
    return Purged(len(ids), _deleteTxn(txn, ids, f" AND {left}"))


def waitingTxn(txn: Txn, before: datetime, mailbox: MailboxName | None = None) -> int:
    """How many messages received before then a purge leaves, as they wait for something."""
    if mailbox is None:
        txn.execute(
            f"SELECT COUNT(*) FROM messages WHERE received_at < ? AND {_WAITS}",
            (timeText(before),),
        )
    else:
        txn.execute(
            f"SELECT COUNT(DISTINCT messages.id) FROM recipients JOIN messages"
            f" ON messages.id = recipients.message_id"
            f" WHERE {_HELD} AND messages.received_at < ? AND {_WAITS}",
            (mailbox.userId, mailbox.key, timeText(before)),
        )
    return int(txn.fetchone()[0])


def queuedTxn(txn: Txn, ids: Collection[str]) -> set[str]:
    """Those of the messages that still wait to be sent to somebody."""
    txn.execute(
        f"SELECT DISTINCT message_id FROM queue"
        f" WHERE state = 'waiting' AND message_id IN ({marks(len(ids))})",
        tuple(ids),
    )
    return {row[0] for row in txn.fetchall()}


def _ids(txn: Txn, sql: str, parameters: Sequence[Any]) -> list[str]:
    txn.execute(sql, parameters)
    return [row[0] for row in txn.fetchall()]


def _deleteTxn(txn: Txn, ids: Sequence[str], besides: str = "") -> int:
    if not ids:
        return 0
    txn.execute(
        f"DELETE FROM messages WHERE id IN ({marks(len(ids))}) AND NOT {_WAITS}{besides}", ids
    )
    return txn.rowcount
