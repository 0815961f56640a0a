"""How much waits in the tables `queue` and `events`, at a price that is bounded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mailsrv.store.queries import Txn, parseTime
from mailsrv.store.queries.events import destinationsTxn

COUNTED = 100_000  # rows of one kind, and destination: more are not looked at

_QUEUE = (
    "SELECT COUNT(*), MIN(created_at) FROM"
    " (SELECT created_at FROM queue WHERE state = ? LIMIT ?) AS few"
)
_EVENTS = (
    "SELECT COUNT(*), MIN(created_at) FROM"
    " (SELECT created_at FROM events WHERE destination = ? AND state = ? LIMIT ?) AS few"
)


@dataclass(frozen=True, slots=True)
class Backlog:
    """Rows by state, and since when the oldest of what waits does: aware, UTC; None: none does."""

    queue: Mapping[str, int]
    queuedSince: datetime | None
    events: Mapping[str, int]
    putUpSince: datetime | None


def backlogTxn(txn: Txn) -> Backlog:
    """What waits, and what was given up."""
    waiting, queuedSince = _lookTxn(txn, _QUEUE, "waiting")
    failed, _ = _lookTxn(txn, _QUEUE, "failed")
    events = {"waiting": 0, "dead": 0}
    since: list[datetime] = []
    for destination in list(destinationsTxn(txn)):
        for state in events:
            count, oldest = _lookTxn(txn, _EVENTS, destination, state)
            events[state] += count
            since += [oldest] if oldest is not None and state == "waiting" else []
    return Backlog(
        {"waiting": waiting, "failed": failed}, queuedSince, events, min(since, default=None)
    )


def _lookTxn(txn: Txn, sql: str, *which: str) -> tuple[int, datetime | None]:
    txn.execute(sql, (*which, COUNTED))
    count, oldest = txn.fetchone()
    return int(count), None if oldest is None else parseTime(str(oldest))
