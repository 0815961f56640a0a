"""Several processes behind one port: --workers."""

from __future__ import annotations

import os
import signal
import smtplib
import time
from pathlib import Path

from integration.realserver import LIMIT, Server, StartServer
from mailsrv.parent import shareOf
from mailsrv.settings import readSettings
from mailsrv.store.dialect import SqliteDialect


def children(server: Server) -> set[int]:
    text = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text()
    return {int(pid) for pid in text.split()}


def waitUntil(isTrue, what: str) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + LIMIT
    while not isTrue():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def isAlive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def deliver(server: Server, number: int) -> None:
    for n in range(number):
        with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
            client.sendmail("a@example.com", ["b@example.org"], f"Subject: {n}\r\n\r\nHello\r\n")


def test_two_workers_take_mail_and_one_that_dies_is_replaced(startServer: StartServer) -> None:
    server = startServer("--workers", "2")
    deliver(server, 10)
    first = children(server)
    assert len(first) == 2
    victim = min(first)
    os.kill(victim, signal.SIGKILL)
    server.waitFor("has ended: .*signal 9.* it is started again in 1 s")
    waitUntil(lambda: len(children(server) - {victim}) == 2, "a new worker")
    deliver(server, 10)
    assert server.rows("SELECT COUNT(*) FROM messages") == [(20,)]
    second = children(server)
    server.stop()
    assert not any(map(isAlive, first | second))


def test_an_sqlite_that_may_lose_what_several_processes_write_is_warned_of(
    startServer: StartServer,
) -> None:
    [finding] = SqliteDialect(":none:").sharing()
    server = startServer("--workers", "2")
    assert sum(str(finding) in line for line in server.log) == (not finding.isFine)
    server.stop()
    alone = startServer()
    assert not any(str(finding) in line for line in alone.log)


def test_a_stop_of_the_parent_is_a_graceful_stop_of_all(startServer: StartServer) -> None:
    server = startServer("--workers", "2")
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.ehlo()
        pids = children(server)
        server.process.send_signal(signal.SIGTERM)
        code, text = client.getreply()
        assert (code, text[:6]) == (421, b"4.3.2 ")
        server.process.wait(LIMIT)
    assert not any(map(isAlive, pids))


def test_workers_do_not_outlive_a_parent_that_was_killed(startServer: StartServer) -> None:
    server = startServer("--workers", "2")
    deliver(server, 1)
    pids = children(server)
    server.process.kill()
    server.process.wait(LIMIT)
    waitUntil(lambda: not any(map(isAlive, pids)), "the workers' end")


def test_a_worker_has_its_share_of_the_limits() -> None:
    given = {
        "workers": ["4"],
        "max-connections": ["10"],
        "max-connections-per-client": ["0"],
        "spool-memory": ["400"],
    }
    share = shareOf(readSettings(given, {})[0])
    assert share.maxConnections == 3
    assert share.maxConnectionsPerClient == 0
    assert share.spoolMemory == 100
