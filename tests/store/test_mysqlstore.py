"""The SQL store on the real MariaDB: the contract of every store, and what only it can do wrong."""

from __future__ import annotations

import pytest
import pytest_twisted

from mailsrv.smtp.message import Message
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing import Store, StoreContract, readMessage
from mariadb import Database


class MysqlContract(StoreContract):
    def __init__(self, url: str) -> None:
        self.dialect = parseUrl(url)
        upgrade(self.dialect)

    def makeStore(self, timeout: float = 30.0) -> Store:
        from twisted.internet import reactor

        return SqlStore(ConnectionPool(self.dialect, reactor, 2), reactor, timeout)

    def read(self, id: str) -> Message | None:
        return readMessage(self.dialect, id)


@pytest.mark.parametrize("check", MysqlContract.checks())
@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_mysql_store_keeps_the_contract(check: str, database: Database) -> None:
    await getattr(MysqlContract(database.url), check)()
