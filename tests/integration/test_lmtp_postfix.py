"""A real Postfix in front, set up as the cookbook says, delivers into the database."""

from __future__ import annotations

import re
import shutil
import smtplib
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from integration.privatepostfix import PrivatePostfix
from integration.realserver import LIMIT, ROOT, Server, StartServer

PAGE = (ROOT / "docs" / "cookbook" / "postfix.rst").read_text("utf-8")
PLACE = "/run/smtpstore"
TEXT = b"From: ann@example.net\r\nSubject: Hello\r\n\r\nA line.\r\n.A dot.\r\n"

pytestmark = pytest.mark.root


def mainCf() -> str:
    """The lines that the page wants in main.cf."""
    found = re.search(r":caption: main\.cf\n +:class: elsewhere\n\n((?: {3}.*\n)+)", PAGE)
    assert found is not None
    return re.sub("^ {3}", "", found[1], flags=re.MULTILINE)


def optionsOfThePage() -> list[str]:
    """How the page starts the server, from --port on; the test has its own --db."""
    found = re.search(r"smtpstore (--port '' --lmtp \S+) --db \S+ (--domain \S+)", PAGE)
    assert found is not None
    return [word.replace("''", "") for word in f"{found[1]} {found[2]}".split(" ")]


@pytest.fixture
def run() -> Iterator[Path]:
    """Stands for /run/smtpstore, with the rights the page gives it."""
    directory = Path(tempfile.mkdtemp(prefix="run", dir="/tmp"))
    shutil.chown(directory, "mail", "postfix")
    directory.chmod(0o710)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def server(startServer: StartServer, run: Path) -> Server:
    options = [word.replace(PLACE, str(run)) for word in optionsOfThePage()]
    started = startServer(*options, "--lmtp", "tcp:0:interface=127.0.0.1")
    for address in ("bob@example.com", "ann@example.com"):
        started.addUser(address, "secret")
    return started


@contextmanager
def stopping(postfix: PrivatePostfix) -> Iterator[PrivatePostfix]:
    try:
        yield postfix
    finally:
        postfix.stop()


@pytest.mark.parametrize("kind", ["unix", "inet"])
def test_postfix_delivers_as_the_cookbook_says(server: Server, run: Path, kind: str) -> None:
    main = mainCf().replace(PLACE, str(run))
    if kind == "inet":
        target = f"lmtp:inet:[127.0.0.1]:{server.portOf('LMTP')}"
        main = re.sub(r"lmtp:unix:\S+", target, main)
    with stopping(PrivatePostfix(main)) as postfix:
        with smtplib.SMTP("127.0.0.1", postfix.port, timeout=LIMIT) as client:
            client.ehlo()
            client.mail("ann@example.net")
            assert client.rcpt("nobody@example.com")[0] == 550
            assert client.rcpt("bob@example.com")[0] == 250
            assert client.rcpt("ann@example.com")[0] == 250
            assert client.rcpt("carol@elsewhere.example")[0] == 554
            assert client.data(TEXT)[0] == 250
        postfix.waitFor(r"to=<bob@example\.com>.*status=sent \(250 2\.0\.0 OK id=")
        postfix.waitFor(r"to=<ann@example\.com>.*status=sent \(250 2\.0\.0 OK id=")
        postfix.waitFor(r"qmgr\[\d+\]: \w+: removed")
    [(identity, protocol, sender, data)] = server.rows(
        "SELECT id, protocol, sender, data FROM messages"
    )
    assert (protocol, sender) == ("LMTP", "ann@example.net")
    assert data.partition(b"\r\n\r\n")[2] == TEXT.partition(b"\r\n\r\n")[2]
    assert re.match(rb"Received: from .*\[127\.0\.0\.1\]", data)
    addresses = server.rows("SELECT address FROM recipients WHERE message_id = ?", identity)
    assert sorted(addresses) == [("ann@example.com",), ("bob@example.com",)]


def test_what_cannot_be_stored_now_stays_in_the_queue(
    server: Server, run: Path, startServer: StartServer
) -> None:
    """No server, no 250: Postfix keeps the mail, and delivers it once the server is back."""
    main = mainCf().replace(PLACE, str(run)).replace("reject_unverified_recipient", "permit")
    main += "minimal_backoff_time = 1s\nqueue_run_delay = 1s\n"
    server.stop()
    with stopping(PrivatePostfix(main)) as postfix:
        with smtplib.SMTP("127.0.0.1", postfix.port, timeout=LIMIT) as client:
            client.sendmail("ann@example.net", "bob@example.com", TEXT)
        postfix.waitFor(r"to=<bob@example\.com>.*status=deferred")
        options = [word.replace(PLACE, str(run)) for word in optionsOfThePage()]
        again = startServer(*options, db=server.db)
        postfix.waitFor(r"to=<bob@example\.com>.*status=sent")
    assert again.rows("SELECT count(*) FROM messages") == [(1,)]
