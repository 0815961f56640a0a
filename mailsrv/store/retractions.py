"""Taking out what was answered as failed and committed nevertheless."""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mailsrv.store.pool import ConnectionPool
from mailsrv.store.queries.messages import deleteMessagesTxn

_FIRST_PAUSE = 0.05  # seconds before it is tried again, doubled each time
_LAST_PAUSE = 1.0


class Retractions:
    """Messages whose COMMIT had no answer in time: their senders were told 421 and keep them.

    Should the COMMIT come through all the same, when the database wakes or is back, they are
    removed at once. The DELETE waits for the transaction it undoes where that is still open.
    Only what ends this process before the database answers can leave such a message there.
    """

    def __init__(self, pool: ConnectionPool, clock: IReactorTime, log: Logger) -> None:
        self._pool = pool
        self._clock = clock
        self._log = log
        self._ids: set[str] = set()
        self._running: Deferred[None] | None = None

    def add(self, ids: Collection[str]) -> None:
        """Have these removed, should they be there, now or as soon as it can be done."""
        self._ids.update(ids)
        if self._running is None and self._ids:
            self._running = Deferred.fromCoroutine(self._run())
            if not self._ids:
                self._running = None

    def close(self) -> None:
        """Give up; what is not settled is named in the log."""
        if self._running is not None:
            self._running.cancel()
        if self._ids:
            self._log.error(
                "Answered 421, and perhaps stored when the database answers again: {ids}",
                ids=", ".join(sorted(self._ids)),
            )

    async def _run(self) -> None:
        pause = _FIRST_PAUSE
        while self._ids and not self._pool.closed:
            ids = tuple(self._ids)
            try:
                count = await self._pool.runInteraction(deleteMessagesTxn, ids)
            except CancelledError:
                return
            except Exception:
                # Whoever stores mail logs what is wrong.
                try:
                    await deferLater(self._clock, pause)
                except CancelledError:
                    return
                pause = min(2 * pause, _LAST_PAUSE)
            else:
                self._ids.difference_update(ids)
                if count:
                    self._log.info(
                        "Removed {count} messages that were answered 421 and committed later",
                        count=count,
                    )
        self._running = None
