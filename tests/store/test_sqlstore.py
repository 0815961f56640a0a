"""The SQL store: the contract on the real SQLite, and the table of faults on a pool at hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted

from mailsrv.smtp.message import Message
from mailsrv.store.dialect import SqliteDialect
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing import Store, StoreContract, readMessage


class SqliteContract(StoreContract):
    def __init__(self, path: Path) -> None:
        self.dialect = SqliteDialect(path / "mail.db")
        upgrade(self.dialect)

    def makeStore(self, timeout: float = 30.0) -> Store:
        from twisted.internet import reactor

        return SqlStore(ConnectionPool(self.dialect, reactor, 1), reactor, timeout)

    def read(self, id: str) -> Message | None:
        return readMessage(self.dialect, id)


@pytest.mark.parametrize("check", SqliteContract.checks())
@pytest_twisted.ensureDeferred
async def test_sqlite_store_keeps_the_contract(check: str, tmp_path: Path) -> None:
    await getattr(SqliteContract(tmp_path), check)()
