"""The outbox in SQL tables: events of committed messages, for whoever delivers them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailsrv.interfaces import Event, EventOutcome, IEventSource
from mailsrv.smtp.message import Recipient, Summary
from mailsrv.store.dialect import Fault
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.queries import Row, Txn, parseTime
from mailsrv.store.queries.events import (
    claimEventsTxn,
    listEventsTxn,
    pruneEventsTxn,
    recordOutcomesTxn,
)
from mailsrv.store.queries.messages import contentTxn, messageTxn
from mailsrv.store.queries.recipients import recipientsTxn

# How long since an event is delivered or dead, and how long a waiting one is due and not tried.
KEPT = {
    "delivered": timedelta(days=3),
    "dead": timedelta(days=30),
    "waiting": timedelta(days=14),
}
PRUNED = 500  # rows of one kind in one transaction
ATTEMPTS = 5  # at a transaction that collides with another server's

P = ParamSpec("P")
T = TypeVar("T")


def _now() -> datetime:
    return datetime.now(UTC)


@implementer(IEventSource)
class SqlEvents:
    """Hands out the rows of `events`; several servers share one database without doing so twice.

    `pool` should be its own, so that it never stands before a COMMIT or a look-up; it does not
    close it. `now`: the wall clock, which servers on one database should roughly agree on.
    """

    def __init__(self, pool: ConnectionPool, now: Callable[[], datetime] = _now) -> None:
        self._pool = pool
        self._now = now
        self._claimant = f"{os.getpid()}-{token_hex(8)}"

    def turn(
        self,
        destination: str,
        outcomes: Sequence[EventOutcome],
        limit: int,
        lease: float,
        octets: int,
    ) -> Deferred[list[Event]]:
        return Deferred.fromCoroutine(self._turn(destination, outcomes, limit, lease, octets))

    async def _turn(
        self,
        destination: str,
        outcomes: Sequence[EventOutcome],
        limit: int,
        lease: float,
        octets: int,
    ) -> list[Event]:
        keys = await self._interact(self._exchangeTxn, destination, outcomes, limit, lease)
        # Apart from the claim, which holds what SQLite has only one of: the right to write.
        return await self._interact(_readEventsTxn, keys, octets) if keys else []

    def prune(self) -> Deferred[bool]:
        now = self._now()
        before = {state: now - age for state, age in KEPT.items()}
        return self._pool.runInteraction(pruneEventsTxn, now, before, PRUNED)

    async def _interact(
        self, interaction: Callable[Concatenate[Txn, P], T], *args: P.args, **kw: P.kwargs
    ) -> T:
        for _ in range(ATTEMPTS - 1):
            try:
                return await self._pool.runInteraction(interaction, *args, **kw)
            except Exception as error:
                if self._pool.dialect.classify(error) is not Fault.TRANSIENT:
                    raise
        return await self._pool.runInteraction(interaction, *args, **kw)

    def _exchangeTxn(
        self, txn: Txn, destination: str, outcomes: Sequence[EventOutcome], limit: int, lease: float
    ) -> list[int]:
        now = self._now()
        recordOutcomesTxn(txn, outcomes, self._claimant, now)
        if not limit:
            return []
        until = now + timedelta(seconds=lease)
        return claimEventsTxn(txn, destination, self._claimant, now, until, limit)


def _readEventsTxn(txn: Txn, keys: Sequence[int], octets: int) -> list[Event]:
    events = []
    for event in listEventsTxn(txn, numbers=keys, limit=len(keys)):
        message = messageTxn(txn, event["message_id"])
        if message is not None:  # deleted a moment ago, and its event with it
            events.append(_event(txn, event, message, octets))
    return events


def _event(txn: Txn, event: Row, message: Row, octets: int) -> Event:
    id, size, date = message["id"], message["size"], message["date"]
    return Event(
        key=event["id"],
        id=id,
        attempt=event["attempts"],
        putUpAt=parseTime(event["created_at"]),
        receivedAt=parseTime(message["received_at"]),
        sender=message["sender"],
        recipients=tuple(
            Recipient(row["address"], row["user_id"], row["parameters"])
            for row in recipientsTxn(txn, id)
        ),
        summary=Summary(
            message["subject"],
            None if date is None else parseTime(date),
            message["body"],
            message["msg_id"],
        ),
        size=size,
        sha256=message["sha256"],
        parameters=message["parameters"],
        helo=message["helo"],
        peer=message["peer"],
        protocol=message["protocol"],
        raw=b"".join(contentTxn(txn, id)) if octets and size <= octets else None,
    )
