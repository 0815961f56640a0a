"""A ledger of what was answered against what is stored, while the database is ill-treated."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from faultyproxy import FaultyProxy
from integration.realserver import LIMIT, Server, StartServer
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mariadb import Database, MakeServer
from rawsmtp import RawSmtp

SENDERS = 8
DB_TIMEOUT = 2.0


class Ledger:
    """What became of each message by its subject: the id of its 250, or the reply that refused it.

    Senders send until `isOver`; nobody sends a subject twice.
    """

    def __init__(self) -> None:
        self.accepted: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.unanswered: set[str] = set()
        self.isOver = False

    def run(self, port: int, sender: int) -> None:
        number = 0
        while not self.isOver:
            subject = f"{sender}-{number}"
            try:
                with RawSmtp(port) as client:
                    client.command("EHLO client.example")
                    while not self.isOver:
                        number += 1
                        subject = f"{sender}-{number}"
                        client.envelope()
                        self.unanswered.add(subject)
                        self._note(subject, client.content(_text(subject)))
            except (ConnectionError, AssertionError):
                time.sleep(0.02)  # as a sender does, only sooner

    def _note(self, subject: str, reply: str) -> None:
        self.unanswered.discard(subject)
        if reply.startswith("250 "):
            self.accepted[subject] = reply.split("id=")[1].strip()
        else:
            self.refused[subject] = reply

    def awaitMore(self, count: int = SENDERS) -> None:
        """Wait until so many more messages have been accepted."""
        wanted = len(self.accepted) + count
        deadline = time.monotonic() + 2 * LIMIT
        while len(self.accepted) < wanted:
            assert time.monotonic() < deadline, "mail is not taken any more"
            time.sleep(0.005)


def _text(subject: str) -> bytes:
    return f"Subject: {subject}\r\n\r\n".encode() + b"A line of it.\r\n" * random.randrange(300)


class Torture:
    """One server under load, its database behind a proxy that cuts."""

    def __init__(self, server: Server, database: Database, proxy: FaultyProxy) -> None:
        self.server = server
        self.database = database
        self.proxy = proxy
        self.ledger = Ledger()

    def run(self, kills: int, stops: int, cuts: int) -> None:
        with ThreadPoolExecutor(SENDERS) as senders:
            runs = [senders.submit(self.ledger.run, self.server.port, n) for n in range(SENDERS)]
            try:
                for round_ in (
                    *[self.kill] * kills,
                    *[self.stop] * stops,
                    *[self.cut] * cuts,
                ):
                    self.ledger.awaitMore(random.randrange(SENDERS, 100))
                    round_()
                self.ledger.awaitMore()
            finally:
                self.ledger.isOver = True
                for run in runs:
                    run.result(3 * LIMIT)

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
        """Lost: accepted and not there as sent. Phantom: refused and there. Doubled: there twice.

        What is refused and there has until LIMIT to be taken out again.
        """
        ledger = self.ledger
        deadline = time.monotonic() + LIMIT
        while True:
            rows = self.database.query("SELECT subject, id FROM messages")
            stored = Counter(subject for subject, _ in rows)
            ids = dict(rows)
            phantom = [subject for subject in ledger.refused if subject in stored]
            if not phantom or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        lost = [subject for subject, id in ledger.accepted.items() if ids.get(subject) != id]
        doubled = [subject for subject, count in stored.items() if count > 1]
        replies = Counter(reply[:9] for reply in ledger.refused.values())
        removed = sum("Removed" in line for line in self.server.log)
        print(
            f"\n{len(ledger.accepted)} answered 250, {len(ledger.refused)} refused"
            f" ({', '.join(f'{reply}: {count}' for reply, count in replies.items()) or '-'}),"
            f" {len(ledger.unanswered)} without an answer; {self.proxy.atCommit} cut in COMMIT;"
            f" {removed} times removed later\n{len(rows)} stored:"
            f" lost {len(lost)}, phantom {len(phantom)}, doubled {len(doubled)}"
        )
        assert (lost, phantom, doubled) == ([], [], [])
        assert set(stored) <= set(ledger.accepted) | ledger.unanswered
        assert set(replies) <= {"421 4.3.0"}
        [(owners,)] = self.database.query("SELECT count(*) FROM recipients")
        assert owners == len(rows)


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
