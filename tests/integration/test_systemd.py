"""From a socket that systemd holds: `systemd-socket-activate` does what the socket unit does."""

from __future__ import annotations

import smtplib
import socket
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

from integration.realserver import LIMIT, TWISTD, Server, environment
from integration.test_proxy import freePort

Tool = Callable[[str], str]
TEXT = b"Subject: Hello\r\n\r\nA line.\r\n"


def start(tool: Tool, directory: Path, sockets: list[str], *args: str) -> Server:
    """It listens at once, and starts the server when the first client comes."""
    names = ":".join(["smtp", "lmtp"][: len(sockets)])
    env = environment()
    process = subprocess.Popen(
        [
            tool("systemd-socket-activate"),
            *(f"--listen={each}" for each in sockets),
            *(f"--fdname={names}", f"--setenv=PYTHONPATH={env['PYTHONPATH']}"),
            *(*TWISTD, "-n", "--pidfile=", "smtpstore", "--db", "sqlite:mail.db", *args),
        ],
        cwd=directory,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return Server(process, directory, f"sqlite:{directory}/mail.db")


def test_the_sockets_of_systemd_are_served(tool: Tool, tmp_path: Path) -> None:
    smtp, lmtp = freePort(), freePort()
    server = start(
        *(tool, tmp_path, [f"127.0.0.1:{smtp}", f"127.0.0.1:{lmtp}"]),
        *("--port", "systemd:domain=INET:name=smtp", "--lmtp", "systemd:domain=INET:index=1"),
    )
    try:
        server.waitFor("Listening on")
        with smtplib.SMTP("127.0.0.1", smtp, timeout=LIMIT) as client:
            client.sendmail("a@example.com", "b@example.org", TEXT)
        with smtplib.LMTP("127.0.0.1", lmtp, timeout=LIMIT) as client:
            client.sendmail("a@example.com", "b@example.org", TEXT)
        assert server.rows("SELECT protocol FROM messages") == [("ESMTP",), ("LMTP",)]
    finally:
        server.stop()
    assert "Traceback" not in "\n".join(server.log)


def test_a_unix_socket_of_systemd_outlives_the_server(tool: Tool) -> None:
    """It is systemd's: removed, nobody could reach the next server."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        path = Path(place) / "smtp"
        server = start(
            *(tool, Path(place), [str(path)]), *("--port", "systemd:domain=UNIX:index=0")
        )
        try:
            server.waitFor("Listening on")
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(LIMIT)
                client.connect(str(path))
                assert client.recv(100).startswith(b"220 ")
        finally:
            server.stop()
        assert path.exists()
        assert "Traceback" not in "\n".join(server.log)


def test_a_socket_that_systemd_did_not_pass_ends_in_one_line(tmp_path: Path) -> None:
    from integration.test_start import oneLine

    line = oneLine(
        *(tmp_path, "-n", "--pidfile=", "smtpstore", "--port", "systemd:domain=INET:index=0")
    )
    assert "systemd" in line
