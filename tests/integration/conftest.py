"""The real `twistd -n smtpstore` in a directory of its own, on a port of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from integration.realserver import TWISTD, Server, StartServer, environment


@pytest.fixture
def startServer(tmp_path: Path, makeUrl: Callable[[Path], str]) -> Iterator[StartServer]:
    """Start servers: `startServer("--domain", "example.com", env={…})`.

    Each has a directory and a database of its own, or the `db` file or the `url` given. They are
    stopped at the end of the test; a traceback in the log of one fails it.
    """
    servers: list[Server] = []

    def start(
        *args: str,
        db: Path | None = None,
        url: str | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Server:
        directory = tmp_path / f"server{len(servers)}"
        directory.mkdir()
        url = url or (f"sqlite:{db}" if db else makeUrl(directory))
        ports = () if "--port" in args else ("--port", "tcp:0:interface=127.0.0.1")
        process = subprocess.Popen(
            [*TWISTD, "-n", "--pidfile=", "smtpstore", *ports, "--db", url, *args],
            cwd=directory,
            env=environment(**(env or {})),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="backslashreplace",
        )
        server = Server(process, directory, url)
        servers.append(server)
        server.waitFor("Mail goes to ")
        return server

    yield start
    for server in servers:
        server.stop()
    for server in servers:
        if not server.mayFail:
            assert "Traceback" not in "\n".join(server.log)
            assert "Unhandled" not in "\n".join(server.log)
