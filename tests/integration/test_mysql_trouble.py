"""Trouble with the database: the reply of the table in time, others unharmed, recovery by itself."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pymysql
import pytest

from faultyproxy import FaultyProxy
from integration.realserver import LIMIT, Server, StartServer, runTwistd
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mariadb import Database, MakeServer, Mariadb
from rawsmtp import RawSmtp

DB_TIMEOUT = 2.0
SLACK = 1.5  # seconds that a busy machine may take on top
FREE = ("--port", "tcp:0:interface=127.0.0.1")
ARGS = ("--db-timeout", str(DB_TIMEOUT))


@pytest.fixture(scope="module")
def troubled(_makeMariadb: MakeServer) -> Iterator[Mariadb]:
    """A server that tests may trouble, as long as they mend it."""
    server = _makeMariadb()
    yield server
    server.kill()


@pytest.fixture
def own(troubled: Mariadb) -> Iterator[Database]:
    """A database with its tables on that server, which is running at the start and the end."""
    made = troubled.makeDatabase()
    upgrade(parseUrl(made.url))
    yield made
    if troubled.process is None:
        troubled.start()
    troubled.resume()
    made.drop()


@pytest.fixture
def proxy(troubled: Mariadb) -> Iterator[FaultyProxy]:
    made = FaultyProxy(troubled.port)
    yield made
    made.close()


def send(server: Server, text: str = "Hello", *recipients: str) -> tuple[str, float]:
    """The reply to a message's end, or to what was refused before it, and the seconds it took."""
    with RawSmtp(server.port) as client:
        began = time.monotonic()
        for line in ("EHLO me", "MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "DATA"):
            reply = client.command(line)
            if reply[0] not in "23":
                return reply, time.monotonic() - began
        began = time.monotonic()
        return client.content(f"Subject: {text}\r\n\r\n".encode()), time.monotonic() - began


def assertUnavailable(server: Server, text: str = "refused", limit: float = DB_TIMEOUT) -> None:
    reply, seconds = send(server, text)
    assert reply.startswith("421 4.3.0 ")
    assert seconds < limit + SLACK


def assertRecovers(server: Server, text: str = "after") -> None:
    """Mail is taken again, without a restart; the first that is has the subject `text`."""
    deadline = time.monotonic() + LIMIT
    while not send(server, text)[0].startswith("250 "):
        assert time.monotonic() < deadline, server.log
        time.sleep(0.05)


def subjects(database: Database) -> list[str]:
    return sorted(subject for (subject,) in database.query("SELECT subject FROM messages"))


# At the start


def test_a_database_that_is_down_at_the_start_is_no_error(
    startServer: StartServer, own: Database
) -> None:
    own.server.kill()
    server = startServer(*ARGS, url=own.url)
    server.waitFor("warn.*mail is answered 421 until it is")
    assertUnavailable(server, limit=0.5)
    own.server.start()
    assertRecovers(server)
    assert subjects(own) == ["after"]


def test_a_database_that_hangs_at_the_start_is_no_error_either(
    startServer: StartServer, own: Database
) -> None:
    own.server.pause()
    server = startServer(*ARGS, url=own.url)
    assertUnavailable(server)
    own.server.resume()
    assertRecovers(server)


def test_tables_that_turn_out_to_be_missing_later_are_said_loudly(
    startServer: StartServer, troubled: Mariadb
) -> None:
    made = troubled.makeDatabase()
    troubled.kill()
    server = startServer(*ARGS, url=made.url)
    troubled.start()
    server.waitFor("critical.*holds no tables yet; run: smtpstore init")
    assertUnavailable(server, limit=0.5)
    upgrade(parseUrl(made.url))
    assertRecovers(server)
    made.drop()


@pytest.mark.parametrize("mode", [("-n",), ()], ids=["foreground", "daemon"])
def test_missing_tables_end_the_start_in_one_line_with_the_command(
    tmp_path: Path, mode: tuple[str, ...], database: Database
) -> None:
    done = runTwistd(tmp_path, *mode, "--pidfile=", "smtpstore", *FREE, "--db", database.url)
    assert done.returncode != 0
    assert done.stderr.startswith("smtpstore: MySQL database ")
    assert done.stderr.count("\n") == 1
    assert "holds no tables yet; run: smtpstore init" in done.stderr
    assert database.query("SHOW TABLES") == []


def test_a_wrong_password_ends_the_start_in_one_line_without_it(
    tmp_path: Path, database: Database
) -> None:
    url = f"mysql://{database.name}:odd-secret@127.0.0.1:{database.server.port}/{database.name}"
    done = runTwistd(tmp_path, "-n", "--pidfile=", "smtpstore", *FREE, "--db", url)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "Access denied" in done.stderr
    assert "odd-secret" not in done.stderr


def test_what_is_not_kept_is_said_at_the_start_or_refused_where_that_is_asked_for(
    startServer: StartServer, tmp_path: Path, makeMariadb: MakeServer
) -> None:
    weak = makeMariadb("--innodb-flush-log-at-trx-commit=2")
    made = weak.makeDatabase()
    upgrade(parseUrl(made.url))
    server = startServer(*ARGS, url=made.url)
    server.waitFor("warn.*innodb_flush_log_at_trx_commit is 2, but a COMMIT is kept")
    assert send(server)[0].startswith("250 ")
    args = ("smtpstore", *FREE, "--require-durable", "--db", made.url)
    done = runTwistd(tmp_path, "-n", "--pidfile=", *args)
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1
    assert "may lose what it has committed: innodb_flush_log_at_trx_commit is 2" in done.stderr
    # Nor does it take mail where that turns out later.
    weak.stop()
    late = startServer(*ARGS, "--require-durable", url=made.url)
    weak.start()
    late.waitFor("SMTP listens on")
    assertUnavailable(late)
    weak.query("SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    assertRecovers(late)


# Gone


def test_a_killed_database_is_421_at_once_and_used_again_when_it_is_back(
    startServer: StartServer, own: Database
) -> None:
    server = startServer(*ARGS, url=own.url)
    assertRecovers(server, "before")
    own.server.kill()
    assertUnavailable(server, limit=0.5)
    own.server.start()
    assertRecovers(server)
    assert subjects(own) == ["after", "before"]
    server.waitFor("error.*takes no mail: ")
    server.waitFor("takes mail again")


def test_a_database_that_was_restarted_unnoticed_costs_nobody_anything(
    startServer: StartServer, own: Database
) -> None:
    server = startServer(*ARGS, url=own.url)
    assertRecovers(server, "before")
    own.server.stop()
    own.server.start()
    assert send(server)[0].startswith("250 ")
    assert not [line for line in server.log if "takes no mail" in line]


# Hanging


def test_a_hung_database_harms_no_other_session_and_leaves_nothing_behind(
    startServer: StartServer, own: Database
) -> None:
    server = startServer(*ARGS, url=own.url)
    assertRecovers(server, "before")
    own.server.pause()
    with RawSmtp(server.port) as other, ThreadPoolExecutor(4) as senders:
        runs = [senders.submit(send, server, "refused") for _ in range(4)]
        slowest = 0.0
        while not all(run.done() for run in runs):
            began = time.monotonic()
            assert other.command("NOOP").startswith("250 ")
            slowest = max(slowest, time.monotonic() - began)
    assert slowest < 0.5
    for run in runs:
        reply, seconds = run.result()
        assert reply.startswith("421 4.3.0 ")
        assert seconds < DB_TIMEOUT + SLACK
    own.server.resume()
    assertRecovers(server)
    assert subjects(own) == ["after", "before"]


def test_while_one_asks_whether_it_hangs_still_the_others_are_answered_at_once(
    startServer: StartServer, own: Database
) -> None:
    server = startServer(*ARGS, url=own.url)
    assertRecovers(server, "before")
    own.server.pause()
    assertUnavailable(server)
    server.waitFor("error.*takes no mail: ")
    with ThreadPoolExecutor(6) as senders:
        times = sorted(
            seconds for _, seconds in senders.map(lambda _: send(server, "refused"), range(6))
        )
    assert times[4] < 0.5  # all but the one that asks
    own.server.resume()
    assertRecovers(server)
    assert subjects(own) == ["after", "before"]


def test_recipients_wait_for_a_hung_database_no_longer_either(
    startServer: StartServer, own: Database
) -> None:
    own.query("INSERT INTO users (address) VALUES ('B@example.org')")
    server = startServer(*ARGS, "--domain", "example.org", url=own.url)
    assertRecovers(server, "before")
    assert own.query("SELECT user_id FROM recipients") == [(1,)]
    own.server.pause()
    time.sleep(5.1)  # for so long the directory remembers
    with RawSmtp(server.port) as client, RawSmtp(server.port) as other:
        client.command("EHLO me")
        client.command("MAIL FROM:<a@example.com>")
        began = time.monotonic()
        client.send(b"RCPT TO:<b@example.org>\r\n")
        assert other.command("NOOP").startswith("250 ")
        assert time.monotonic() - began < 0.5
        assert client.reply().startswith("421 4.3.0 ")
        assert time.monotonic() - began < DB_TIMEOUT + SLACK
    own.server.resume()
    assertRecovers(server)


def test_a_commit_that_hangs_is_421_and_what_it_left_is_removed(
    startServer: StartServer, own: Database, proxy: FaultyProxy
) -> None:
    """Without an answer to its COMMIT nobody can say 250; and once 421 is said, it must go."""
    server = startServer(*ARGS, url=own.urlAt(f"127.0.0.1:{proxy.port}"))
    assertRecovers(server, "before")
    proxy.fault = "hold"
    thread = threading.Thread(target=lambda: proxy.happened.wait(LIMIT) and setFault(proxy, ""))
    thread.start()
    reply, seconds = send(server, "held")
    thread.join()
    # The look for it may come in time to say that it is there: then it counts, and stays.
    assert seconds < DB_TIMEOUT + SLACK
    assert reply.startswith("421 4.3.0 ")
    server.waitFor("Removed 1 messages that were answered 421 and committed later")
    assertRecovers(server)
    assert subjects(own) == ["after", "before"]


def setFault(proxy: FaultyProxy, fault: str) -> None:
    proxy.fault = fault


def test_it_stops_in_time_with_a_hung_database(startServer: StartServer, own: Database) -> None:
    server = startServer("--db-timeout", "60", url=own.url)
    assertRecovers(server, "before")
    own.server.pause()
    with ThreadPoolExecutor(1) as senders:
        run = senders.submit(send, server, "refused")
        time.sleep(0.3)
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        assert run.result()[0].startswith("421 ")
        server.process.wait(LIMIT + 5)
    assert time.monotonic() - began < 20
    own.server.resume()
    assert subjects(own) == ["before"]


# Cut off


@pytest.mark.parametrize("fault", ["before", "after"])
def test_a_connection_cut_in_commit_is_answered_by_what_is_there(
    startServer: StartServer, own: Database, proxy: FaultyProxy, fault: str
) -> None:
    server = startServer(*ARGS, url=own.urlAt(f"127.0.0.1:{proxy.port}"))
    assertRecovers(server, "before")
    proxy.fault = fault
    thread = threading.Thread(target=lambda: proxy.happened.wait(LIMIT) and setFault(proxy, ""))
    thread.start()
    assert send(server, "cut")[0].startswith("250 ")
    thread.join()
    assert proxy.atCommit == 1
    assert subjects(own) == ["before", "cut"]


# Refusing

Mend = Callable[[], object]


def tooManyConnections(own: Database) -> Mend:
    stranger = own.server.makeDatabase()
    own.server.query("SET GLOBAL max_connections = 10")
    own.disconnectAll()
    others = []
    with suppress(pymysql.OperationalError):
        while True:
            others.append(stranger.connect())

    def mend() -> None:
        own.server.query("SET GLOBAL max_connections = 151")
        for other in others:
            other.close()
        stranger.drop()

    return mend


def readOnly(own: Database) -> Mend:
    own.server.query("SET GLOBAL read_only = 1")
    return lambda: own.server.query("SET GLOBAL read_only = 0")


def wrongPassword(own: Database) -> Mend:
    own.setPassword("another")
    own.disconnectAll()
    return own.setPassword


def noRights(own: Database) -> Mend:
    own.server.query(f"REVOKE ALL ON `{own.name}`.* FROM `{own.name}`@'%'")
    own.disconnectAll()
    return lambda: own.server.query(f"GRANT ALL ON `{own.name}`.* TO `{own.name}`@'%'")


def noTables(own: Database) -> Mend:
    own.query("RENAME TABLE recipients TO recipients_gone")
    return lambda: own.query("RENAME TABLE recipients_gone TO recipients")


@pytest.mark.parametrize(
    ("trouble", "says"),
    [
        (tooManyConnections, "takes no mail: .*Too many connections"),
        (readOnly, "takes no mail: .*read-only"),
        (wrongPassword, "takes no mail: .*Access denied"),
        (noRights, "takes no mail: .*denied"),
        (noTables, "critical.*missing or wrong, no mail is accepted; run: smtpstore init"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_database_that_refuses_is_421_until_it_is_mended(
    startServer: StartServer, own: Database, trouble: Callable[[Database], Mend], says: str
) -> None:
    server = startServer(*ARGS, url=own.url)
    assertRecovers(server, "before")
    mend = trouble(own)
    try:
        assertUnavailable(server)
        assertUnavailable(server)
    finally:
        mend()
    server.waitFor(says)
    assertRecovers(server)
    assert subjects(own) == ["after", "before"]


# Slow, full


def test_a_database_that_is_slow_is_waited_for(startServer: StartServer, own: Database) -> None:
    server = startServer("--db-timeout", "20", url=own.url)
    lock = own.server.connect(database=own.name)
    lock.cursor().execute("LOCK TABLES messages WRITE")
    with ThreadPoolExecutor(1) as senders:
        run = senders.submit(send, server, "slow")
        time.sleep(1)
        assert not run.done()
        lock.close()
        assert run.result()[0].startswith("250 ")
    assert subjects(own) == ["slow"]


def test_a_database_that_is_too_slow_stores_nothing_later(
    startServer: StartServer, own: Database
) -> None:
    server = startServer(*ARGS, url=own.url)
    assertRecovers(server, "before")
    lock = own.server.connect(database=own.name)
    lock.cursor().execute("LOCK TABLES messages WRITE")
    assertUnavailable(server)
    lock.close()
    assertRecovers(server)
    assert subjects(own) == ["after", "before"]


def test_a_full_disk_is_452_until_there_is_room(
    startServer: StartServer, makeMariadb: MakeServer
) -> None:
    full = makeMariadb(
        "--innodb-file-per-table=0", "--innodb-data-file-path=ibdata1:12M:autoextend:max:24M"
    )
    made = full.makeDatabase()
    upgrade(parseUrl(made.url))
    server = startServer(*ARGS, url=made.url)
    large = b"x" * 900 + b"\r\n"
    with RawSmtp(server.port) as client:
        client.command("EHLO me")
        for _ in range(40):
            client.envelope()
            reply = client.content(b"Subject: filler\r\n\r\n" + large * 1000)
            if not reply.startswith("250 "):
                break
        assert reply.startswith("452 4.3.1 ")
        assert client.command("NOOP").startswith("250 ")
        promised = len(subjects(made))
        full.stop()
        full.start("--innodb-data-file-path=ibdata1:12M:autoextend")
        deadline = time.monotonic() + LIMIT
        client.envelope()
        while not client.content(b"Subject: after\r\n\r\n").startswith("250 "):
            assert time.monotonic() < deadline
            client.envelope()
    assert subjects(made) == ["after"] + ["filler"] * promised
