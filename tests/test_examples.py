"""The examples, run as a person would: each for real, and each on one page."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import smtplib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread

from mailsrv.testing import MailServer

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
LETTER = b"Subject: My printer is on fire\r\n\r\nHelp.\r\n"


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"example_{name}", ROOT / f"examples/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextmanager
def program(name: str, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """An example that serves until it is stopped, and the port it listens on."""
    process = subprocess.Popen(
        [sys.executable, str(ROOT / f"examples/{name}.py"), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield process, int(line.rsplit(" ", 1)[1])
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def send(port: int, to: str, *options: str) -> int:
    """Send the letter; the code of the answer."""
    with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
        try:
            client.sendmail("alice@example.org", [to], LETTER, options)
        except smtplib.SMTPRecipientsRefused as error:
            return error.recipients[to][0]
        except smtplib.SMTPResponseException as error:
            return error.smtp_code
        return 250


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_a_page_long_and_some_test_runs_it(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 60
    others = (each for each in (ROOT / "tests").rglob("test_*example*.py"))
    texts = "".join(each.read_text("utf-8") for each in others)
    assert f'"{path.stem}"' in texts or f"examples/{path.name}" in texts


def test_embed_lands_mail_for_support_in_a_file(tmp_path: Path) -> None:
    with program("embed", str(tmp_path / "tickets.db"), "0") as (_, port):
        assert send(port, "support+7@example.com") == 250
        assert send(port, "eve@example.com") == 550
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            assert client.verify("support")[0] == 252
    connection = sqlite3.connect(tmp_path / "tickets.db")
    rows = connection.execute("SELECT subject, data FROM messages").fetchall()
    connection.close()
    assert rows == [("My printer is on fire", LETTER)]


def test_twistedmail_gives_a_program_of_twisted_mail_its_messages() -> None:
    with program("twistedmail", "0") as (process, port):
        assert send(port, "support@example.com") == 250
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(4)]
        assert lines[0].startswith("Received: from ")
        assert lines[1:] == ["Subject: My printer is on fire\n", "\n", "Help. \n"]
        assert send(port, "eve@example.com") == 550


@pytest_twisted.ensureDeferred
async def test_extension_takes_the_number_of_a_ticket() -> None:
    async with MailServer(reactor, extensions=[load("extension").XTicket()]) as server:
        assert await deferToThread(send, server.port, "a@b.c", "XTICKET=x") == 501
        assert await deferToThread(send, server.port, "a@b.c", "XTICKET=4711") == 250
        [message] = server.messages()
        assert "XTICKET=4711" in message.parameters


@pytest_twisted.ensureDeferred
async def test_policy_asks_who_is_new_to_come_again() -> None:
    clock = Clock()
    async with MailServer(reactor, policies=[load("policy").Greylist(clock)]) as server:
        assert await deferToThread(send, server.port, "a@b.c") == 451
        clock.advance(59)
        assert await deferToThread(send, server.port, "a@b.c") == 451
        clock.advance(1)
        assert await deferToThread(send, server.port, "a@b.c") == 250
        assert await deferToThread(send, server.port, "other@b.c") == 451


@pytest.mark.parametrize("path", [*EXAMPLES, *sorted(ROOT.glob("contrib/**/*.py"))], ids=str)
def test_what_people_begin_from_uses_public_names_alone(path: Path) -> None:
    for line in path.read_text("utf-8").splitlines():
        assert not re.match(r"\s*(from|import) mailsrv\.(?!testing\b)", line), line
