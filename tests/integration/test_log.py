"""The log of a real twistd, wherever it goes: as Twisted writes it, and quickly where it is text."""

from __future__ import annotations

import re
import smtplib
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from twisted.logger import eventsFromJSONLogFile

from integration.realserver import LIMIT, Server, StartServer, environment
from integration.test_start import FREE, Daemon
from integration.test_workers import waitUntil

STORED = re.compile(
    r"(\S+) \[smtpstore#info\] (?:worker \d: (\S+) \[smtpstore#info\] )?stored id=(\w{26}) "
    r"peer=127\.0\.0\.1 from=<a@example\.com> to=<b@example\.org> size=\d+ ms=\d+\.\d\n"
)
FAR = {"TZ": "FAR-12:45"}

# Says who writes the log of a twistd, once everything runs, and ends it.
WHO = """
import sys
from twisted.internet import reactor
from twisted.logger import FileLogObserver, Logger
from twisted.scripts.twistd import run

def tell():
    trace = []
    Logger().debug("who", log_trace=trace)
    for _, observer in trace:
        if isinstance(observer, FileLogObserver):
            print(type(observer.formatEvent).__name__, file=sys.__stderr__)
    reactor.stop()

reactor.callWhenRunning(lambda: reactor.callLater(0, tell))
sys.argv = ["twistd", "-n", "--pidfile=", *sys.argv[1:]]
run()
"""
JSON = """
from twisted.logger import jsonFileLogObserver
def make():
    return jsonFileLogObserver(open("log.json", "w"), "")
"""
EMBEDDED = f"""
from twisted.application.service import Application
from mailsrv.service import Options, makeService
options = Options()
options.parseOptions({FREE!r})
application = Application("mine")
makeService(options).setServiceParent(application)
"""


def send(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, timeout=LIMIT) as client:
        client.sendmail("a@example.com", "b@example.org", "Subject: 1\r\n\r\n")


def storedIn(text: str) -> re.Match[str]:
    """The one line of the one message; the time in it is now, and that of the place."""
    [line] = [line for line in text.splitlines(keepends=True) if "stored id=" in line]
    match = STORED.fullmatch(line)
    assert match is not None, line
    for each in filter(None, match.groups()[:2]):
        when = datetime.strptime(each, "%Y-%m-%dT%H:%M:%S%z")
        assert when.utcoffset() == timedelta(hours=12, minutes=45)
        assert abs(datetime.now(when.tzinfo) - when) < timedelta(seconds=LIMIT)
    return match


@pytest.mark.parametrize("args", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_message_is_one_line_on_standard_output(
    args: tuple[str, ...], startServer: StartServer
) -> None:
    server: Server = startServer(*args, env=FAR)
    send(server.port)
    server.waitFor("stored id=")
    storedIn("".join(f"{line}\n" for line in server.log))


@pytest.mark.parametrize("args", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_message_is_one_line_in_the_file_of_a_daemon(
    args: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", FAR["TZ"])
    daemon = Daemon(tmp_path, "smtpstore", *FREE, *args)
    try:
        send(daemon.port)
        waitUntil(lambda: "stored id=" in daemon.log, "the line")
        match = storedIn(daemon.log)
    finally:
        daemon.stop()
    assert (match[2] is None) == (args == ())


def test_a_line_has_left_the_process_before_the_next_thing_happens(
    startServer: StartServer,
) -> None:
    server = startServer(env=FAR)
    server.mayFail = True
    send(server.port)  # its QUIT is answered behind the line
    server.process.kill()
    server.waitFor("stored id=")


def who(directory: Path, *args: str) -> list[str]:
    """Who writes the log of a twistd that is started so, file by file."""
    done = subprocess.run(
        [sys.executable, "-c", WHO, *args],
        cwd=directory,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=LIMIT,
        check=True,
    )
    return done.stderr.split()


@pytest.mark.parametrize("args", [(), ("--logfile", "log")], ids=["standard output", "file"])
def test_text_is_written_quickly(args: tuple[str, ...], tmp_path: Path) -> None:
    assert who(tmp_path, *args, "smtpstore", *FREE) == ["LogText"]


def test_syslog_is_what_it_was(tmp_path: Path) -> None:
    assert who(tmp_path, "--syslog", "smtpstore", *FREE) == []


def test_a_logger_of_somebody_elses_hears_what_is_said_and_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "others.py").write_text(JSON)
    assert who(tmp_path, "--logger", "others.make", "smtpstore", *FREE) == ["function"]
    with (tmp_path / "log.json").open() as lines:
        forms = [event["log_format"] for event in eventsFromJSONLogFile(lines)]
    assert "who" in forms
    assert None not in forms


def test_the_log_of_a_program_that_has_us_as_a_part_is_its_own(tmp_path: Path) -> None:
    (tmp_path / "its.tac").write_text(EMBEDDED)
    assert who(tmp_path, "--python", "its.tac") == ["function"]
