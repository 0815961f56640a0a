"""The tables `events` and `event_lanes`: what the application is still to be told, in order."""

# ruff: noqa: S608 - what is put together are the constants of this page
from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime

from mailsrv.interfaces import EventOutcome
from mailsrv.smtp.message import Message
from mailsrv.store.queries import Row, Txn, clean, insertTxn, marks, rowsTxn, timeText
from mailsrv.store.queries.recipients import addressKey

MAX_ERROR = 500  # characters of last_error
STATES = ("waiting", "delivered", "dead")

_COLUMNS = (
    "id", "message_id", "destination", "state", "attempts", "next_attempt_at", "claimed_by",
    "claimed_until", "last_error", "created_at",
)  # fmt: skip
_INTO = "INSERT INTO events (message_id, destination, next_attempt_at, created_at)"
_INTO_LANES = "INSERT INTO event_lanes (lane, event_id)"
_NUMBERS = "SELECT id, message_id, destination FROM events WHERE message_id IN ({})"

_IS_FREE = "(claimed_until IS NULL OR claimed_until <= ?)"
_DUE = f"""
SELECT id FROM events
WHERE destination = ? AND state = 'waiting' AND next_attempt_at <= ? AND {_IS_FREE}
  AND NOT EXISTS (
    SELECT 1 FROM event_lanes mine
    JOIN event_lanes earlier ON earlier.lane = mine.lane AND earlier.event_id < mine.event_id
    WHERE mine.event_id = events.id)
ORDER BY next_attempt_at, id LIMIT ?"""
_CLAIM = (
    "UPDATE events SET claimed_by = ?, claimed_until = ?, attempts = attempts + 1"
    f" WHERE id IN ({{}}) AND state = 'waiting' AND {_IS_FREE}"
)
_CLAIMED = (
    "SELECT id FROM events WHERE id IN ({}) AND claimed_by = ? AND claimed_until = ? ORDER BY id"
)

_FREE = "claimed_by = NULL, claimed_until = NULL"
# Whoever holds the claim by now: it was delivered, and nobody should do so again.
_DELIVERED = (
    f"UPDATE events SET state = 'delivered', next_attempt_at = ?, last_error = NULL, {_FREE}"
    " WHERE id IN ({})"
)
_LATER = (
    f"UPDATE events SET next_attempt_at = ?, last_error = ?, {_FREE}"
    " WHERE id = ? AND claimed_by = ? AND state = 'waiting'"
)
_DEAD = (
    f"UPDATE events SET state = 'dead', next_attempt_at = ?, last_error = ?, {_FREE}"
    " WHERE id = ? AND claimed_by = ? AND state = 'waiting'"
)
_LEAVE_LANES = "DELETE FROM event_lanes WHERE event_id IN ({})"

_LIST = "SELECT {} FROM events WHERE {} ORDER BY id LIMIT ?"
_RECIPIENTS = "SELECT user_id, address FROM recipients WHERE message_id = ?"
_REPLAY = (
    "UPDATE events SET state = 'waiting', attempts = 0, next_attempt_at = ?, created_at = ?,"
    f" last_error = NULL, {_FREE} WHERE id = ? AND {_IS_FREE}"
)

_NEXT_DESTINATION = "SELECT min(destination) FROM events WHERE destination > ?"
_OLD = (
    "SELECT id FROM events WHERE destination = ? AND state = ? AND next_attempt_at < ?"
    f" AND {_IS_FREE} LIMIT ?"
)
_ABANDON = (
    "UPDATE events SET state = 'dead', next_attempt_at = ?,"
    " last_error = 'nobody has delivered to this destination' WHERE id IN ({})"
)
_DELETE = "DELETE FROM events WHERE id IN ({})"


# Putting up


def insertEventsTxn(txn: Txn, messages: Sequence[Message], destinations: Sequence[str]) -> None:
    """Put up messages just written for each destination; they are due at once."""
    if not messages:
        return
    insertTxn(txn, _INTO, _rows(messages, destinations), len(messages) * len(destinations))
    txn.execute(_NUMBERS.format(marks(len(messages))), [message.id for message in messages])
    byId = {message.id: message for message in messages}
    lanes = [
        (lane, number)
        for number, id, destination in txn.fetchall()
        for lane in _lanes(destination, ((r.userId, r.address) for r in byId[id].recipients))
    ]
    insertTxn(txn, _INTO_LANES, lanes, len(lanes))


def _rows(messages: Iterable[Message], destinations: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for message in messages:
        now = timeText(message.receivedAt)
        for destination in destinations:
            yield message.id, destination, now, now


def _lanes(destination: str, recipients: Iterable[tuple[int | None, str]]) -> set[str]:
    """Within a lane one event is delivered after the other."""
    held = {
        addressKey(clean(address)) if user is None else f"#{user}" for user, address in recipients
    }
    return {hashlib.sha256(f"{destination}\0{key}".encode()).hexdigest()[:32] for key in held}


# Delivering


def claimEventsTxn(
    txn: Txn, destination: str, claimant: str, now: datetime, until: datetime, limit: int
) -> list[int]:
    """Claim events that are due and whose turn it is, `limit` at most; their numbers.

    The claim is one conditional UPDATE, so that of several servers only one has an event.
    """
    time, end = timeText(now), timeText(until)
    txn.execute(_DUE, (destination, time, time, limit))
    numbers = [row[0] for row in txn.fetchall()]
    if not numbers:
        return []
    places = marks(len(numbers))
    txn.execute(_CLAIM.format(places), (claimant, end, *numbers, time))
    txn.execute(_CLAIMED.format(places), (*numbers, claimant, end))
    return [row[0] for row in txn.fetchall()]


def recordOutcomesTxn(
    txn: Txn, outcomes: Iterable[EventOutcome], claimant: str, now: datetime
) -> None:
    """Write down what became of events that `claimant` had claimed."""
    time = timeText(now)
    delivered = []
    for outcome in outcomes:
        error = clean(outcome.error or "")[:MAX_ERROR]
        if outcome.error is None:
            delivered.append(outcome.key)
        elif outcome.retryAt is not None:
            later = timeText(outcome.retryAt)
            txn.execute(_LATER, (later, error, outcome.key, claimant))
        else:
            txn.execute(_DEAD, (time, error, outcome.key, claimant))
            if txn.rowcount:
                _leaveLanesTxn(txn, [outcome.key])
    if delivered:
        txn.execute(_DELIVERED.format(marks(len(delivered))), (time, *delivered))
        _leaveLanesTxn(txn, delivered)


def _leaveLanesTxn(txn: Txn, numbers: Sequence[int]) -> None:
    txn.execute(_LEAVE_LANES.format(marks(len(numbers))), tuple(numbers))


# Looking after them


def listEventsTxn(
    txn: Txn,
    state: str | None = None,
    destination: str | None = None,
    numbers: Collection[int] | None = None,
    messageIds: Collection[str] | None = None,
    after: int = 0,
    limit: int = 100,
) -> list[Row]:
    """Events in their order, all columns; `after`: the last number of the page before.

    `numbers` and `messageIds` together: events that are among either.
    """
    conditions: list[str] = ["id > ?"]
    given: list[object] = [after]
    for column, value in (("state", state), ("destination", destination)):
        if value is not None:
            conditions.append(f"{column} = ?")
            given.append(value)
    if numbers is not None or messageIds is not None:
        numbers, messageIds = numbers or (-1,), messageIds or ("",)
        conditions.append(
            f"(id IN ({marks(len(numbers))}) OR message_id IN ({marks(len(messageIds))}))"
        )
        given += [*numbers, *messageIds]
    txn.execute(_LIST.format(", ".join(_COLUMNS), " AND ".join(conditions)), (*given, limit))
    return rowsTxn(txn)


def replayEventTxn(txn: Txn, event: Row, now: datetime) -> bool:
    """Have an event delivered once more, from its first attempt on, in its old place.

    False where it is being delivered just now.
    """
    time = timeText(now)
    txn.execute(_REPLAY, (time, time, event["id"], time))
    if not txn.rowcount:
        return False
    txn.execute(_RECIPIENTS, (event["message_id"],))
    lanes = _lanes(event["destination"], list(txn.fetchall()))
    _leaveLanesTxn(txn, [event["id"]])
    insertTxn(txn, _INTO_LANES, [(lane, event["id"]) for lane in lanes], len(lanes))
    return True


def pruneEventsTxn(txn: Txn, now: datetime, before: Mapping[str, datetime], limit: int) -> bool:
    """Remove events that are delivered or dead since `before[state]`; those that are due since
    `before["waiting"]`, and nobody has tried them, are dead from now on.

    `limit` at most of each state and destination; whether there may be more.
    """
    isMore = False
    for destination in destinationsTxn(txn):
        for state, time in before.items():
            txn.execute(_OLD, (destination, state, timeText(time), timeText(now), limit))
            numbers = [row[0] for row in txn.fetchall()]
            isMore |= len(numbers) == limit
            if numbers and state == "waiting":
                txn.execute(_ABANDON.format(marks(len(numbers))), (timeText(now), *numbers))
                _leaveLanesTxn(txn, numbers)
            elif numbers:
                txn.execute(_DELETE.format(marks(len(numbers))), numbers)
    return isMore


def destinationsTxn(txn: Txn) -> Iterator[str]:
    """Every destination there is a row for, each by one step down the index."""
    destination = ""
    while True:
        txn.execute(_NEXT_DESTINATION, (destination,))
        (found,) = txn.fetchone()
        if found is None:
            return
        destination = found
        yield destination
