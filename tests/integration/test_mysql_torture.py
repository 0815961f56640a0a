"""A ledger of what was answered against what is stored, while the database is ill-treated."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterator

import pytest

from faultyproxy import FaultyProxy
from integration.ledger import SENDERS, Ledger
from integration.realserver import LIMIT, Server, StartServer
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mariadb import Database, MakeServer

DB_TIMEOUT = 2.0


class Torture:
    """One server under load, its database behind a proxy that cuts."""

    def __init__(self, server: Server, database: Database, proxy: FaultyProxy) -> None:
        self.server = server
        self.database = database
        self.proxy = proxy
        self.ledger = Ledger()

    def run(self, kills: int, stops: int, cuts: int) -> None:
        rounds = (*[self.kill] * kills, *[self.stop] * stops, *[self.cut] * cuts)
        with self.ledger.sending(self.server.port):
            for round_ in rounds:
                self.ledger.awaitMore(random.randrange(SENDERS, 100))
                round_()
            self.ledger.awaitMore()

    def kill(self) -> None:
        self.database.server.kill()
        time.sleep(random.uniform(0, 0.3))
        self.database.server.start()

    def stop(self) -> None:
        self.database.server.pause()
        time.sleep(DB_TIMEOUT * 1.5)
        self.database.server.resume()

    def cut(self) -> None:
        """The next COMMIT, before or after the database has heard of it, in turns."""
        before = self.proxy.atCommit
        self.proxy.happened.clear()
        self.proxy.fault = "after" if before % 2 else "before"
        assert self.proxy.happened.wait(LIMIT)
        self.proxy.fault = ""
        assert self.proxy.atCommit > before

    def assertKept(self) -> None:
        ledger = self.ledger
        difference = ledger.compare(lambda: self.database.query("SELECT subject, id FROM messages"))
        [(stored,)] = self.database.query("SELECT count(*) FROM messages")
        removed = sum("Removed" in line for line in self.server.log)
        print(
            f"\n{ledger}; {self.proxy.atCommit} cut in COMMIT; {removed} times removed later\n"
            f"{stored} stored: {difference}"
        )
        assert difference.isNone, difference
        assert set(ledger.refusals) <= {"421 4.3.0"}
        [(owners,)] = self.database.query("SELECT count(*) FROM recipients")
        assert owners == stored


@pytest.fixture
def torture(startServer: StartServer, makeMariadb: MakeServer) -> Iterator[Torture]:
    mariadb = makeMariadb()
    database = mariadb.makeDatabase()
    upgrade(parseUrl(database.url))
    proxy = FaultyProxy(mariadb.port)
    url = database.urlAt(f"127.0.0.1:{proxy.port}")
    server = startServer("--db-timeout", str(DB_TIMEOUT), url=url)
    yield Torture(server, database, proxy)
    proxy.close()


def test_nothing_is_lost_or_made_up_by_a_little_ill_treatment(torture: Torture) -> None:
    torture.run(kills=2, stops=1, cuts=4)
    torture.assertKept()
    assert threading.active_count() < 100


@pytest.mark.torture
def test_nothing_is_lost_or_made_up_by_much_ill_treatment(torture: Torture) -> None:
    torture.run(kills=20, stops=5, cuts=20)
    torture.assertKept()
