"""Whether the tables are as they should be."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mailsrv.process import openDatabase
from mailsrv.store.dialect import Dialect
from mailsrv.store.migrate import SchemaError, checkTables
from mailsrv.store.pool import ConnectionPool

PAUSE = 1.0  # seconds between looks at a database that was down at the start

_log = Logger(namespace="smtpstore")


class TablesCheck:
    """Looks before the start; and where the database is down then, as soon as it is there.

    The pool is somebody else's.
    """

    def __init__(self, dialect: Dialect, pool: ConnectionPool, reactor: Any) -> None:
        self._dialect = dialect
        self._pool = pool
        self._reactor = reactor
        self._isDone = True
        self._later: Deferred[None] = succeed(None)

    def now(self, limit: float) -> list[str]:
        """Make or upgrade the tables within `limit` seconds, or check them; what to warn of.

        Raises StartError."""
        self._isDone, warnings = openDatabase(self._dialect, limit)
        return warnings

    def start(self) -> None:
        """Look on, where `now` could not."""
        if not self._isDone:
            self._later = Deferred.fromCoroutine(self._checkLater())

    def stop(self) -> None:
        """Look no more."""
        self._later.cancel()

    async def _checkLater(self) -> None:
        """Say what `now` would have said, as soon as the database is there."""
        with suppress(CancelledError):
            while not await self._isChecked():
                await deferLater(self._reactor, PAUSE)

    async def _isChecked(self) -> bool:
        try:
            warnings = await self._pool.runWithConnection(checkTables, self._dialect)
        except CancelledError:
            raise
        except SchemaError as error:
            _log.critical("{error}; until then mail is answered 421", error=error)
        except Exception:
            return False  # who needs the database says what is wrong with it
        else:
            for warning in warnings:
                _log.warn("{warning}", warning=warning)
        return True
