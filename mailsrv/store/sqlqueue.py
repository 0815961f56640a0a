"""The queue in SQL tables: whoever's conditional UPDATE comes first has the row."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from datetime import datetime
from typing import Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred
from ulid import ULID
from zope.interface import implementer

from mailsrv.interfaces import IQueue, Outcome, QueueItem
from mailsrv.smtp.errors import CannotStore, OutOfRoom, StoreError, Unavailable
from mailsrv.smtp.message import Message
from mailsrv.store.dialect import Fault
from mailsrv.store.pool import ConnectionPool, OutcomeUnknown
from mailsrv.store.queries import Txn
from mailsrv.store.queries.events import insertEventsTxn
from mailsrv.store.queries.messages import insertMessagesTxn
from mailsrv.store.queries.queue import (
    claimTxn,
    insertQueueTxn,
    partTxn,
    releaseTxn,
    renewTxn,
    settleTxn,
)
from mailsrv.store.queries.recipients import insertRecipientsTxn

_P = ParamSpec("_P")
_T = TypeVar("_T")

ATTEMPTS = 3  # at a transaction that loses against others
# DUPLICATE: another has taken the next free number meanwhile.
_AGAIN = {Fault.TRANSIENT, Fault.DUPLICATE}
_ANSWERS: dict[Fault, type[StoreError]] = {
    Fault.FULL: OutOfRoom,
    Fault.OTHER: CannotStore,
    Fault.DUPLICATE: CannotStore,
}


@implementer(IQueue)
class SqlQueue:
    """The table `queue`, which any number of servers may share, also over a Galera cluster.

    `worker`: who claims, for people that look into the table. `destinations`: of events, as the
    store's. The pool is somebody else's.
    """

    def __init__(self, pool: ConnectionPool, worker: str, destinations: Sequence[str] = ()) -> None:
        self._pool = pool
        self._worker = worker[:60]
        self._destinations = tuple(destinations)

    def claim(
        self, limit: int, now: datetime, until: datetime, excluded: Collection[str] = ()
    ) -> Deferred[list[QueueItem]]:
        # A name for each claim: whoever lost one must not settle what another, or a later
        # attempt of its own, holds now.
        claim = f"{self._worker}/{ULID()}"
        return self._run(claimTxn, claim, now, until, limit, tuple(excluded))

    def renew(self, items: Sequence[QueueItem], until: datetime) -> Deferred[None]:
        return self._run(_renewTxn, items, until)

    def release(self, items: Sequence[QueueItem]) -> Deferred[None]:
        return self._run(_releaseTxn, items)

    def settle(
        self, outcomes: Sequence[Outcome], report: Message | None, now: datetime
    ) -> Deferred[bool]:
        return self._run(_settleTxn, outcomes, report, now, self._destinations)

    def read(self, messageId: str, index: int) -> Deferred[bytes]:
        return self._run(_readTxn, messageId, index)

    def _run(
        self, txn: Callable[Concatenate[Txn, _P], _T], *args: _P.args, **kw: _P.kwargs
    ) -> Deferred[_T]:
        return Deferred.fromCoroutine(self._attempt(txn, *args, **kw))

    async def _attempt(
        self, txn: Callable[Concatenate[Txn, _P], _T], *args: _P.args, **kw: _P.kwargs
    ) -> _T:
        """Run the transaction, again where it lost; what the driver raises becomes an answer.

        Each may run again after a COMMIT whose outcome is not known: what it did the first time
        it does not find to be done any more. (A claim that nobody heard of lapses.)
        """
        left = ATTEMPTS
        while True:
            left -= 1
            try:
                return await self._pool.runInteraction(txn, *args, **kw)
            except StoreError:
                raise
            except OutcomeUnknown as error:
                if not left:
                    raise Unavailable(str(error)) from error
            except Exception as error:
                fault = self._pool.dialect.classify(error)
                if fault not in _AGAIN or not left:
                    raise _ANSWERS.get(fault, Unavailable)(str(error)) from error


def _renewTxn(txn: Txn, items: Sequence[QueueItem], until: datetime) -> None:
    for claim, ids in _byClaim(items):
        renewTxn(txn, claim, ids, until)


def _releaseTxn(txn: Txn, items: Sequence[QueueItem]) -> None:
    for claim, ids in _byClaim(items):
        releaseTxn(txn, claim, ids)


def _settleTxn(
    txn: Txn,
    outcomes: Sequence[Outcome],
    report: Message | None,
    now: datetime,
    destinations: Sequence[str],
) -> bool:
    isNews = sum(settleTxn(txn, outcome, now) for outcome in outcomes) > 0
    if isNews and report is not None:
        insertMessagesTxn(txn, [report])
        insertRecipientsTxn(txn, [report])
        insertQueueTxn(txn, [report])
        if destinations:
            insertEventsTxn(txn, [report], destinations)
    return isNews


def _readTxn(txn: Txn, messageId: str, index: int) -> bytes:
    part = partTxn(txn, messageId, index)
    if part is None:
        raise CannotStore(f"message {messageId} has gone")
    return part


def _byClaim(items: Sequence[QueueItem]) -> Iterable[tuple[str, list[int]]]:
    """The ids of each claim, in order, so that two transactions never wait for one another."""
    claims: dict[str, list[int]] = {}
    for item in sorted(items, key=lambda item: item.id):
        claims.setdefault(item.claim, []).append(item.id)
    return claims.items()
