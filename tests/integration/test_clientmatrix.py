"""Every client, in each way it can: what it was answered 250 for is stored as it was sent.

`--torture` runs all of the matrix, with those clients that are unpacked beside the system, and
writes docs/clients.rst; else each client that is installed runs a part that meets each way once.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration import mailclients
from integration.mailclients import (
    AUTH,
    CLIENTS,
    CONTENTS,
    PASSWORD,
    TLS,
    USER,
    Case,
    MailClient,
    Place,
    Postfix,
)
from integration.realserver import ROOT, Server, StartServer

ALL = [Case(*each) for each in itertools.product(TLS, AUTH, CONTENTS)]
PART = [Case("plain", "", "utf8"), Case("starttls", "PLAIN", "dots"), Case("tls", "LOGIN", "ascii")]
BESIDE = {"Exim": "exim4-daemon-light", "OpenSMTPD": "opensmtpd"}
ORDINARY = [client for client in CLIENTS if client.name not in (*BESIDE, "nodemailer")]

_numbers = itertools.count()


@pytest.fixture
def place(startServer: StartServer) -> Iterator[tuple[Server, Place]]:
    server = startServer("--tls", "auto", "--auth-insecure", "--smtps", "tcp:0:interface=127.0.0.1")
    server.addUser(USER, PASSWORD)
    # Exim gives up root's rights, and has to reach its own directory.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as directory:
        os.chmod(directory, 0o755)
        yield server, Place(server.port, server.portOf("SMTPS"), Path(directory))
        for client in CLIENTS:
            if isinstance(client, Postfix):
                client.stop()


def check(client: MailClient, case: Case, server: Server, place: Place) -> None:
    """Deliver it, and look at what is in the tables."""
    sender, recipient = client.addresses(case, next(_numbers))
    client.deliver(case, place, sender, recipient)
    [(identity, storedSender, protocol, head)] = server.rows(
        "SELECT m.id, m.sender, m.protocol, m.data FROM messages m"
        " JOIN recipients r ON r.message_id = m.id WHERE r.address = ?",
        recipient,
    )
    rest = server.rows("SELECT data FROM message_parts WHERE message_id = ? ORDER BY seq", identity)
    data = head + b"".join(part for (part,) in rest)
    assert storedSender == sender
    name = "ESMTP" if recipient.isascii() else "UTF8SMTP"
    name += ("S" if case.tls != "plain" else "") + ("A" if case.auth else "")
    # Who has no login may say HELO, which has no word for TLS.
    assert protocol == name or (client.saysHelo and not case.auth and protocol == "SMTP")
    assert data.partition(b"\r\n\r\n")[2] == case.body
    if client.isWhole:
        assert f"From: {sender}\r\n".encode() in data
        assert f"Subject: {case}\r\n".encode() in data


@pytest.mark.parametrize("client", ORDINARY, ids=lambda client: client.name)
def test_a_client_delivers_in_each_way(
    client: MailClient, place: tuple[Server, Place], tool: Callable[[str], str]
) -> None:
    tool(client.program)
    for case in PART:
        if not client.cannot(case):
            check(client, case, *place)


# All of it


@pytest.fixture
def beside(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Exim and OpenSMTPD out of their packages, nothing installed; nodemailer out of npm's.

    Where other users than root may run them.
    """
    directory = Path(tempfile.mkdtemp(prefix="beside", dir="/tmp"))
    directory.chmod(0o755)
    root = directory / "root"
    commands = [
        ["apt-get", "-qq", "download", *BESIDE.values()],
        *(["sh", "-c", f"dpkg -x {package}_*.deb {root}"] for package in BESIDE.values()),
        ["npm", "install", "--silent", "--prefix", str(directory), "nodemailer"],
    ]
    for command in commands:
        subprocess.run(command, cwd=directory, check=True, timeout=120, capture_output=True)
    monkeypatch.setattr(mailclients, "BESIDE", str(root))
    monkeypatch.setenv("NODE_PATH", str(directory / "node_modules"))
    yield
    shutil.rmtree(directory)


def attempt(client: MailClient, case: Case, place: tuple[Server, Place]) -> str:
    """What the table says: 'yes', '-' where the client does not do this, or 'NO'."""
    if client.cannot(case):
        return "–"
    try:
        check(client, case, *place)
    except (Exception, AssertionError) as error:  # a cell each: the table shows all that fail
        print(client.name, case, repr(error)[:2000])
        return "NO"
    return "yes"


@pytest.mark.torture
@pytest.mark.root
@pytest.mark.usefixtures("beside")
def test_the_whole_matrix_makes_the_table_of_the_docs(place: tuple[Server, Place]) -> None:
    cells = {
        (client.name, case): attempt(client, case, place) for client in CLIENTS for case in ALL
    }
    (ROOT / "docs" / "clients.rst").write_text(page(cells))
    assert [key for key, cell in cells.items() if cell == "NO"] == []


def page(cells: dict[Any, str]) -> str:
    rows = [("client", "version", *TLS, "SMTPUTF8")]
    for client in CLIENTS:
        ways = [wayOf(client.name, tls, cells) for tls in TLS]
        rows.append((client.name, client.shownVersion(), *ways, "yes" if client.isUtf8 else "–"))
    return _PAGE.format(table=table(rows))


def wayOf(name: str, tls: str, cells: dict[Any, str]) -> str:
    """The logins with which all of the contents arrived; which ones did not, if any."""
    found = {auth: {cells[name, Case(tls, auth, each)] for each in CONTENTS} for auth in AUTH}
    return ", ".join(
        f"{auth or 'none'}{' FAILS' if 'NO' in said else ''}"
        for auth, said in found.items()
        if said != {"–"}
    )


def table(rows: list[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rule = "  ".join("=" * width for width in widths)
    text = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join([rule, text[0], rule, *text[1:], rule])


_PAGE = """Clients that were tried
=======================

Made by ``pytest --torture tests/integration/test_clientmatrix.py``: each client delivered to the
real server, and what was in the tables afterwards was compared with what was sent. A cell names
the logins with which four messages arrived octet for octet: plain text, text outside ASCII, lines
that begin with or are nothing but dots, and 10 MB. *plain* is without TLS (a login then needs
``--auth-insecure``), *starttls* on the same port, *tls* from the first octet on the ``--smtps``
port. *SMTPUTF8*: the client sends addresses outside ASCII too, and did.

{table}

swaks, curl, the Python libraries, nodemailer and OpenSMTPD send the message as it is given to them;
msmtp adds a Date and a Message-ID, and s-nail, Postfix and Exim have a header of their own: of
theirs the text was compared. OpenSMTPD's ``smtp`` logs in only in TLS, and with PLAIN where that is
offered. Exim and OpenSMTPD were unpacked from Debian's packages and run beside the system; of
OpenSMTPD only its client is run, as its daemon wants users and directories of the system. Postfix is
an instance of its own with a private queue.
"""
