"""LMTP on TCP and UNIX sockets, and sockets that are files."""

from __future__ import annotations

import os
import pwd
import smtplib
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from integration.realserver import LIMIT, StartServer, pythonForAll
from integration.test_start import FREE, Daemon, oneLine

LMTP = ("--lmtp", "tcp:0:interface=127.0.0.1")
OFF = ("--port", "")
TEXT = b"Subject: Hello\r\n\r\nA line.\r\n"


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a socket may be: the path must be short, and others may reach it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chmod(directory, 0o755)
        yield Path(directory) / "lmtp"


def test_each_recipient_has_its_own_reply(startServer: StartServer) -> None:
    server = startServer(*LMTP, "--domain", "example.com")
    server.addUser("bob@example.com", "secret")
    with smtplib.LMTP("127.0.0.1", server.portOf("LMTP"), timeout=LIMIT) as client:
        assert client.docmd("EHLO c")[0] == 500
        client.ehlo()
        client.mail("a@example.org")
        codes = [client.rcpt(each)[0] for each in ("bob@example.com", "no@example.com")]
        assert codes == [250, 550]
        assert client.rcpt("postmaster@example.com")[0] == 250
        assert client.data(TEXT)[0] == 250
        assert client.getreply()[0] == 250
        assert client.noop()[0] == 250
    assert server.rows("SELECT protocol FROM messages") == [("LMTP",)]
    assert len(server.rows("SELECT address FROM recipients")) == 2


def test_a_unix_socket_is_for_its_owner_and_group_and_gone_at_the_end(
    startServer: StartServer, path: Path
) -> None:
    server = startServer(*OFF, "--lmtp", f"unix:{path}")
    server.waitFor(f"LMTP listens on {path}")
    assert stat.S_IMODE(path.stat().st_mode) == 0o660
    with smtplib.LMTP(str(path)) as client:
        client.sendmail("a@example.org", "b@example.com", TEXT)
    assert server.rows("SELECT peer, data FROM messages") == [("", TEXT)]
    server.stop()
    assert not path.exists()
    assert list(path.parent.iterdir()) == []


def test_what_a_killed_server_left_behind_is_replaced(startServer: StartServer, path: Path) -> None:
    killed = startServer(*OFF, "--lmtp", f"unix:{path}")
    killed.process.kill()
    killed.process.wait(LIMIT)
    assert path.exists()
    startServer(*OFF, "--lmtp", f"unix:{path}")
    with smtplib.LMTP(str(path)) as client:
        assert client.noop()[0] == 250


def test_the_socket_of_a_server_that_lives_is_left_alone(
    startServer: StartServer, path: Path, tmp_path: Path
) -> None:
    startServer(*OFF, "--lmtp", f"unix:{path}")
    line = oneLine(tmp_path, "-n", "--pidfile=", "smtpstore", *OFF, "--lmtp", f"unix:{path}")
    assert f"cannot listen on {path}: Address already in use; another program" in line
    with smtplib.LMTP(str(path)) as client:
        assert client.noop()[0] == 250


def test_a_file_that_is_no_socket_is_left_alone(path: Path, tmp_path: Path) -> None:
    path.write_text("mine")
    line = oneLine(tmp_path, "-n", "--pidfile=", "smtpstore", *OFF, "--lmtp", f"unix:{path}")
    assert "Address already in use" in line
    assert path.read_text() == "mine"


def test_a_socket_that_somebody_removed_does_not_keep_the_server_from_stopping(
    startServer: StartServer, path: Path
) -> None:
    server = startServer(*OFF, "--lmtp", f"unix:{path}")
    with smtplib.LMTP(str(path)) as client:
        assert client.noop()[0] == 250
    path.unlink()
    server.stop()
    server.waitFor("Stopped")


@pytest.mark.root
def test_a_socket_belongs_to_the_user_that_the_server_becomes(path: Path) -> None:
    """And who may not remove it from its directory stops all the same."""
    nobody = pwd.getpwnam("nobody")
    home = path.parent / "home"
    home.mkdir()
    os.chown(home, nobody.pw_uid, nobody.pw_gid)
    args = ("--uid", "nobody", "smtpstore", *FREE, "--lmtp", f"unix:{path}")
    daemon = Daemon(home, *args, python=pythonForAll())
    try:
        assert daemon.port
        seen = path.stat()
        assert (seen.st_uid, seen.st_gid) == (nobody.pw_uid, nobody.pw_gid)
    finally:
        daemon.stop()
    assert "Traceback" not in daemon.log


def test_a_socket_takes_two_clients_at_once(startServer: StartServer, path: Path) -> None:
    startServer(*OFF, "--lmtp", f"unix:{path}", "--max-connections-per-client", "1")
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as other:
        for client in (one, other):
            client.settimeout(LIMIT)
            client.connect(str(path))
            assert client.recv(100).startswith(b"220 "), "who has no address is not counted by it"
