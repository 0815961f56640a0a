"""The SQL store on the real MariaDB: the contract of every store, and what only it can do wrong."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from mailsrv.smtp.errors import CannotStore
from mailsrv.smtp.message import Message
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing import GatedContent, Store, StoreContract, makeMessage, readMessage
from mariadb import Database, MakeServer


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
async def test_mysql_store_keeps_the_contract(check: str, mailDatabase: Database) -> None:
    await getattr(MysqlContract(mailDatabase.url), check)()


@pytest.fixture
def contract(mailDatabase: Database) -> MysqlContract:
    return MysqlContract(mailDatabase.url)


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_one_that_cannot_be_stored_fails_alone_among_fifty_in_one_batch(
    database: Database,
) -> None:
    contract = MysqlContract(database.url)
    database.query(
        "CREATE TRIGGER poison BEFORE INSERT ON messages FOR EACH ROW"
        " IF NEW.sender = 'poison' THEN SIGNAL SQLSTATE '45000'; END IF"
    )
    store = contract.makeStore()
    gate = GatedContent(b"first")
    first = store.store(makeMessage(content=gate))
    messages = [makeMessage(sender="poison" if n == 33 else "") for n in range(51)]
    answers = [store.store(message) for message in messages]
    gate.gate.set()
    await first
    for number, (message, answer) in enumerate(zip(messages, answers, strict=True)):
        if number == 33:
            await StoreContract.assertFails(answer, CannotStore)
        else:
            assert await answer == message.id
    await store.close()
    stored = {id for (id,) in database.query("SELECT id FROM messages WHERE sender = ''")}
    assert stored == {message.id for message in messages if message.sender == ""}


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_a_deadlock_costs_nobody_anything(
    contract: MysqlContract, mailDatabase: Database
) -> None:
    """The batch holds its row of messages and wants one of recipients; the other has that, wants
    the batch's, and has written more, so that it is the batch that has to yield."""
    message = makeMessage()
    other = mailDatabase.server.connect(database=mailDatabase.name, autocommit=False)
    txn = other.cursor()
    txn.execute("INSERT INTO aliases (address, target) SELECT seq, '' FROM seq_1_to_500")
    txn.execute("SELECT * FROM recipients FOR UPDATE")
    before = deadlocks(mailDatabase)
    store = contract.makeStore()
    answer = store.store(message)
    await untilWaiting(mailDatabase, "INSERT INTO recipients")
    await deferToThread(
        txn.execute, "SELECT * FROM messages WHERE id = %s FOR UPDATE", [message.id]
    )
    assert deadlocks(mailDatabase) == before + 1
    other.rollback()
    assert await answer == message.id
    other.close()
    await store.close()
    assert contract.read(message.id) is not None


def deadlocks(database: Database) -> int:
    [(_, count)] = database.query("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
    return int(count)


async def untilWaiting(database: Database, statement: str) -> None:
    """Until a statement that begins so is under way."""
    from twisted.internet import reactor

    for _ in range(400):
        found = database.query(
            "SELECT 1 FROM information_schema.processlist WHERE info LIKE %s", f"{statement}%"
        )
        if found:
            return
        await deferLater(reactor, 0.01)
    raise AssertionError(f"nobody waits in {statement}")


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_what_max_allowed_packet_does_not_take_fails_alone(makeMariadb: MakeServer) -> None:
    """A server set to less than ours as installed: the large one is refused, not tried for ever."""
    server = makeMariadb("--max-allowed-packet=1M")
    contract = MysqlContract(server.makeDatabase().url)
    store = contract.makeStore()
    gate = GatedContent(b"first")
    first = store.store(makeMessage(content=gate))
    large = makeMessage(b"'" * 1_100_000)
    small = [makeMessage(b"y" * 100_000) for _ in range(12)]
    answers = [store.store(message) for message in (large, *small)]
    gate.gate.set()
    await first
    await StoreContract.assertFails(answers[0], CannotStore)
    for message, answer in zip(small, answers[1:], strict=True):
        assert await answer == message.id
    await store.close()


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_a_server_that_prepares_nothing_more_is_given_the_text(
    makeMariadb: MakeServer,
) -> None:
    server = makeMariadb("--max-prepared-stmt-count=0")
    contract = MysqlContract(server.makeDatabase().url)
    store = contract.makeStore()
    message = makeMessage(b"it's \\ \0 \xff %s ?", sender="lone \udcff surrogate '\\ %s")
    assert await store.store(message) == message.id
    kept = contract.read(message.id)
    assert kept is not None
    assert kept.sender == "lone \ufffd surrogate '\\ %s"
    assert b"".join(kept.content.pieces(1 << 20)) == b"it's \\ \0 \xff %s ?"
    await store.close()


@pytest_twisted.ensureDeferred  # type: ignore[untyped-decorator]
async def test_a_large_message_does_not_hold_small_ones_up(contract: MysqlContract) -> None:
    store = contract.makeStore()
    gate = GatedContent(b"x" * (3 << 20))
    large = store.store(makeMessage(content=gate))
    small = [makeMessage() for _ in range(20)]
    for message in small:
        assert await store.store(message) == message.id
    assert not large.called
    gate.gate.set()
    await large
    await store.close()
