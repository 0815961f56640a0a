"""The stop: what was answered is there, what was received gets its true answer, all within 20 s."""

from __future__ import annotations

import signal
import smtplib
import socket
import sqlite3
import subprocess
import sys
import time

import pytest

from integration.realserver import LIMIT, TWISTD, Server, StartServer, environment

MESSAGE = b"Subject: Last\r\n\r\nLine\r\n"


class Talk:
    """A bare client: what is sent, and the replies line by line."""

    def __init__(self, server: Server) -> None:
        self.socket = server.connect()
        self.file = self.socket.makefile("rb")
        self.reply()

    def reply(self) -> bytes:
        """The last line of the next reply; b'' where the connection is closed."""
        while (line := self.file.readline())[3:4] == b"-":
            pass
        return line

    def say(self, line: bytes) -> bytes:
        self.socket.sendall(line + b"\r\n")
        return self.reply()

    def sendWhole(self) -> None:
        """A message and its end; the answer is not awaited."""
        for line in (b"EHLO me", b"MAIL FROM:<a@example.com>", b"RCPT TO:<b@example.org>"):
            assert self.say(line).startswith(b"250 ")
        assert self.say(b"DATA").startswith(b"354 ")
        self.socket.sendall(MESSAGE + b".\r\n")

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_sessions_are_told_and_the_process_ends_soon(
    startServer: StartServer, number: signal.Signals
) -> None:
    server = startServer()
    talk = Talk(server)
    assert talk.say(b"NOOP").startswith(b"250 ")
    began = time.monotonic()
    server.process.send_signal(number)
    assert talk.reply().startswith(b"421 4.3.2 ")
    assert talk.reply() == b""
    talk.close()
    assert server.process.wait(LIMIT) == -number
    assert time.monotonic() - began < 5
    server.waitFor("Stopped")


def test_who_connects_to_a_stopped_server_is_refused(startServer: StartServer) -> None:
    server = startServer()
    port = server.port
    server.stop()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=LIMIT)


def test_a_second_signal_leaves_no_traceback(startServer: StartServer) -> None:
    server = startServer()
    lock = locked(server)
    talk = Talk(server)
    talk.sendWhole()
    server.process.send_signal(signal.SIGINT)
    server.waitFor("Received SIGINT")
    assert_closed(server)
    server.process.send_signal(signal.SIGINT)
    lock.close()
    assert talk.reply().startswith(b"250 ")
    talk.close()


def test_two_signals_at_once_leave_no_traceback(startServer: StartServer) -> None:
    server = startServer()
    Talk(server).close()
    # Held until both are there, so that the reactor finds them together.
    for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
        server.process.send_signal(number)
    assert server.process.wait(LIMIT) in (-signal.SIGTERM, -signal.SIGINT)
    server.waitFor("Received SIGINT")
    server.waitFor("Received SIGTERM")
    server.waitFor("Stopped")


def assert_closed(server: Server) -> None:
    server.waitFor(r"Port \d+ Closed")


def locked(server: Server) -> sqlite3.Connection:
    """A database that nobody else can write to until this connection is closed."""
    lock = sqlite3.connect(server.db, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    return lock


def test_a_message_whose_end_was_received_gets_its_true_answer(startServer: StartServer) -> None:
    server = startServer()
    lock = locked(server)
    talk = Talk(server)
    talk.sendWhole()
    server.process.send_signal(signal.SIGTERM)
    assert_closed(server)
    lock.close()
    assert talk.reply().startswith(b"250 2.0.0 ")
    talk.close()
    server.stop()
    assert server.rows("SELECT sender, data FROM messages") == [("a@example.com", MESSAGE)]


def test_with_a_hung_database_it_is_over_in_twenty_seconds_and_nothing_is_stored_later(
    startServer: StartServer,
) -> None:
    server = startServer()
    lock = locked(server)
    talk = Talk(server)
    talk.sendWhole()
    began = time.monotonic()
    server.process.send_signal(signal.SIGTERM)
    assert talk.reply().startswith(b"421 4.3.0 ")
    talk.close()
    assert server.process.wait(LIMIT + 5) in (1, -signal.SIGTERM)
    assert time.monotonic() - began < 20
    lock.close()
    assert server.rows("SELECT count(*) FROM messages") == [(0,)]


def test_a_stopped_server_starts_again_on_its_database(startServer: StartServer) -> None:
    first = startServer()
    with smtplib.SMTP("127.0.0.1", first.port, timeout=LIMIT) as client:
        client.sendmail("a@example.com", "b@example.org", MESSAGE)
    first.stop()
    second = startServer(db=first.db)
    with smtplib.SMTP("127.0.0.1", second.port, timeout=LIMIT) as client:
        client.sendmail("a@example.com", "b@example.org", MESSAGE)
    assert second.rows("SELECT count(*) FROM messages") == [(2,)]


HANGS = """
import os, runpy, signal, sys, time
from mailsrv import service
service.STOP_AT_ALL = 0.5
from twisted.internet import reactor
def hang():
    reactor.callInThread(time.sleep, 60)
    reactor.callLater(0.1, os.kill, os.getpid(), signal.SIGTERM)
reactor.callWhenRunning(hang)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def test_a_thread_that_hangs_does_not_keep_the_process(tmp_path: object) -> None:
    command = [sys.executable, "-c", HANGS, TWISTD[1], "-n", "--pidfile=", "smtpstore"]
    done = subprocess.run(
        [*command, "--port", "tcp:0:interface=127.0.0.1"],
        cwd=str(tmp_path),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 1
    assert "it is ended by force" in done.stdout


CLOCK = """
import sys, threading, time
realTime, offset = time.time, 0
time.time = lambda: realTime() + offset
from twisted.internet import reactor
from mailsrv.process import useMonotonicClock
if sys.argv[1] == "monotonic":
    useMonotonicClock(reactor)
def step():
    global offset
    offset = -3600
def fired():
    print("fired")
    reactor.stop()
reactor.callLater(0.2, fired)
reactor.callWhenRunning(step)
threading.Timer(2, reactor.callFromThread, [reactor.crash]).start()
reactor.run()
"""


@pytest.mark.parametrize(("clock", "says"), [("monotonic", "fired\n"), ("wall", "")])
def test_timers_fire_in_time_though_the_wall_clock_is_set_back(clock: str, says: str) -> None:
    """With the wall clock they do not: so it is the other clock that makes the difference."""
    done = subprocess.run(
        [sys.executable, "-c", CLOCK, clock],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (done.returncode, done.stdout) == (0, says), done.stderr
