"""The table `queue`: mail for addresses elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from operator import attrgetter
from typing import Any

from mailsrv.interfaces import Outcome, QueuedMessage, QueueItem
from mailsrv.smtp.address import domainKey
from mailsrv.smtp.message import Forward, Message
from mailsrv.smtp.notify import expanded, withoutSuccess
from mailsrv.store.queries import Row, Txn, clean, insertTxn, marks, parseTime, rowsTxn, timeText
from mailsrv.store.queries.recipients import addRecipientsTxn

MAX_REPLY = 1000  # characters of a reply that are kept

_INTO = (
    "INSERT INTO queue"
    " (message_id, address, domain, recipient, parameters, next_attempt_at, created_at)"
)
_FREE = "(claimed_until IS NULL OR claimed_until <= ?)"
_DUE = f"state = 'waiting' AND next_attempt_at <= ? AND {_FREE}"
_SELECT_DUE = f"SELECT id FROM queue WHERE {_DUE}{{}} ORDER BY next_attempt_at, id LIMIT ?"  # noqa: S608
_CLAIM = f"UPDATE queue SET claimed_by = ?, claimed_until = ? WHERE id IN ({{}}) AND {_DUE}"  # noqa: S608
_SELECT_CLAIMED = (
    "SELECT q.id, q.address, q.domain, q.recipient, q.parameters, q.attempts, q.delay_reported,"
    " q.created_at, m.id, m.received_at, m.sender, m.parameters, m.trace, m.size"
    " FROM queue q JOIN messages m ON m.id = q.message_id"
    " WHERE q.claimed_by = ? AND q.id IN ({}) ORDER BY q.next_attempt_at, q.id"
)
_RENEW = (
    "UPDATE queue SET claimed_until = ? WHERE id IN ({}) AND claimed_by = ? AND state = 'waiting'"
)
_RELEASE = (
    "UPDATE queue SET claimed_by = NULL, claimed_until = NULL"
    " WHERE id IN ({}) AND claimed_by = ? AND state = 'waiting'"
)
_SETTLE = (
    "UPDATE queue SET state = ?, attempts = attempts + 1, next_attempt_at = ?, last_reply = ?,"
    " delay_reported = ?, claimed_by = NULL, claimed_until = NULL"
    " WHERE id = ? AND state = 'waiting'"
)
_LISTED = (
    "id, message_id, address, domain, recipient, parameters, state, attempts, next_attempt_at,"
    " claimed_by, claimed_until, delay_reported, last_reply, created_at"
)


def insertQueueTxn(txn: Txn, messages: Iterable[Message]) -> None:
    """Queue messages just written for the addresses elsewhere; they are due at once."""
    rows = list(_rows(messages))
    insertTxn(txn, _INTO, rows, len(rows))


def _rows(messages: Iterable[Message]) -> Iterator[tuple[Any, ...]]:
    for message in filter(attrgetter("forwards"), messages):
        now = timeText(message.receivedAt)
        shared = expanded(message)
        for forward in message.forwards:
            if forward.recipient in shared:
                forward = replace(forward, parameters=withoutSuccess(forward.parameters))
            yield _row(message.id, forward, now)


def _row(messageId: str, forward: Forward, now: str) -> tuple[str, ...]:
    address, recipient = clean(forward.address), clean(forward.recipient)
    domain = domainKey(address.rpartition("@")[2])
    return messageId, address, domain, recipient, clean(forward.parameters), now, now


def queueTxn(txn: Txn, messageId: str) -> list[Row]:
    """The queue rows of a message, in the order they were written."""
    txn.execute("SELECT * FROM queue WHERE message_id = ? ORDER BY id", (messageId,))
    return rowsTxn(txn)


# For who relays


def claimTxn(
    txn: Txn, claim: str, now: datetime, until: datetime, limit: int, excluded: Collection[str]
) -> list[QueueItem]:
    """Claim at most `limit` rows that are due, the longest due first, as `claim` until then.

    The conditional UPDATE alone decides: of all who saw a row, one finds it still free.
    """
    time = timeText(now)
    besides = f" AND domain NOT IN ({marks(len(excluded))})" if excluded else ""
    txn.execute(_SELECT_DUE.format(besides), (time, time, *excluded, limit))
    ids = [row[0] for row in txn.fetchall()]
    if not ids:
        return []
    txn.execute(_CLAIM.format(marks(len(ids))), (claim, timeText(until), *ids, time, time))
    txn.execute(_SELECT_CLAIMED.format(marks(len(ids))), (claim, *ids))
    return [_item(claim, row) for row in txn.fetchall()]


def _item(claim: str, row: Sequence[Any]) -> QueueItem:
    id_, address, domain, recipient, parameters, attempts, delayed, created, *message = row
    messageId, received, sender, mailParameters, trace, size = message
    return QueueItem(
        id=id_,
        claim=claim,
        message=QueuedMessage(
            messageId, parseTime(received), sender, mailParameters, trace.encode(), size
        ),
        address=address,
        domain=domain,
        recipient=recipient,
        parameters=parameters,
        attempts=attempts,
        isDelayReported=bool(delayed),
        createdAt=parseTime(created),
    )


def renewTxn(txn: Txn, claim: str, ids: Sequence[int], until: datetime) -> None:
    """Keep rows that are still claimed as `claim` for longer."""
    txn.execute(_RENEW.format(marks(len(ids))), (timeText(until), *ids, claim))


def releaseTxn(txn: Txn, claim: str, ids: Sequence[int]) -> None:
    """Let go of rows that are still claimed as `claim`; they are as due as they were."""
    txn.execute(_RELEASE.format(marks(len(ids))), (*ids, claim))


def settleTxn(txn: Txn, outcome: Outcome, now: datetime) -> bool:
    """Write what came of an attempt, and where else it leads; whether the row waited for it.

    A row that is sent is sent, even if its claim has lapsed; whatever else came of an attempt
    counts only for who still holds the claim.
    """
    item = outcome.item
    besides, who = ("", ()) if outcome.state == "sent" else (" AND claimed_by = ?", (item.claim,))
    txn.execute(
        _SETTLE + besides,
        (
            outcome.state,
            timeText(outcome.nextAttemptAt or now),
            clean(outcome.reply)[:MAX_REPLY],
            int(item.isDelayReported or outcome.isDelayReported),
            item.id,
            *who,
        ),
    )
    isNews = txn.rowcount > 0
    if isNews and outcome.recipients:
        addRecipientsTxn(txn, item.message.id, outcome.recipients)
    if isNews and outcome.forwards:
        rows = [_row(item.message.id, forward, timeText(now)) for forward in outcome.forwards]
        insertTxn(txn, _INTO, rows, len(rows))
    return isNews


def partTxn(txn: Txn, messageId: str, index: int) -> bytes | None:
    """The `index`th MiB of a message's octets, from 0; None where there is none."""
    if index == 0:
        txn.execute("SELECT data FROM messages WHERE id = ?", (messageId,))
    else:
        txn.execute(
            "SELECT data FROM message_parts WHERE message_id = ? AND seq = ?", (messageId, index)
        )
    row = txn.fetchone()
    return None if row is None else bytes(row[0])


# For people


def listQueueTxn(
    txn: Txn,
    state: str | None = None,
    to: str | None = None,
    domain: str | None = None,
    message: str | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Row]:
    """Rows of the queue with the senders of their messages, the oldest first.

    `to`: where it goes, or the forward-path it comes from. `after`: the last id of the page
    before.
    """
    conditions: list[tuple[Any, ...]] = [("q.id > ?", after)]
    if state is not None:
        conditions.append(("q.state = ?", state))
    if to is not None:
        conditions.append(
            ("(lower(q.address) = lower(?) OR lower(q.recipient) = lower(?))", to, to)
        )
    if domain is not None:
        conditions.append(("q.domain = ?", domainKey(domain)))
    if message is not None:
        conditions.append(("q.message_id = ?", message))
    columns = ", ".join(f"q.{name.strip()}" for name in _LISTED.split(","))
    where = " AND ".join(condition for condition, *_ in conditions)
    txn.execute(
        f"SELECT {columns}, m.sender FROM queue q JOIN messages m ON m.id = q.message_id"  # noqa: S608
        f" WHERE {where} ORDER BY q.id LIMIT ?",
        (*(value for _, *values in conditions for value in values), limit),
    )
    return rowsTxn(txn)


def queueRowTxn(txn: Txn, id: int) -> Row | None:
    """One row of the queue; None where there is none."""
    txn.execute(f"SELECT {_LISTED} FROM queue WHERE id = ?", (id,))  # noqa: S608
    rows = rowsTxn(txn)
    return rows[0] if rows else None


def retryQueueTxn(txn: Txn, now: datetime, id: int | None = None) -> int:
    """Make a row that has not been sent due now, given up or not, or all that wait; how many."""
    if id is None:
        txn.execute(
            "UPDATE queue SET next_attempt_at = ? WHERE state = 'waiting'", (timeText(now),)
        )
    else:
        txn.execute(
            "UPDATE queue SET state = 'waiting', next_attempt_at = ?"
            " WHERE id = ? AND state <> 'sent'",
            (timeText(now), id),
        )
    return txn.rowcount


def removeQueueTxn(txn: Txn, id: int) -> bool:
    """Delete a row; nobody is told."""
    txn.execute("DELETE FROM queue WHERE id = ?", (id,))
    return txn.rowcount > 0
