"""Next hops that keep the octets they are given: a second smtpstore, Postfix's, and Python's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Protocol

from integration.realserver import LIMIT, Server
from mariadb import freePort

RUN_AIOSMTPD = str(Path(__file__).with_name("runaiosmtpd.py"))
# What smtp-sink writes in front: fields of its own, the last of them a folded Received.
_SINK_HEAD = re.compile(rb"(?:X-[^\n]*\n)+Received: [^\n]*\n(?:\t[^\n]*\n)*")


class Keeper(Protocol):
    """`isExact`: it takes BDAT, so that octets which DATA would not carry arrive too."""

    port: int
    isExact: bool

    def contents(self) -> list[bytes]:
        """The octets of each message it has taken."""

    def close(self) -> None:
        """End it."""


class SmtpstoreKeeper:
    """A second smtpstore."""

    isExact = True

    def __init__(self, server: Server) -> None:
        self._server = server
        self.port = server.port

    def contents(self) -> list[bytes]:
        parts: dict[str, list[bytes]] = {}
        for id, octets in self._server.rows("SELECT id, data FROM messages"):
            parts[id] = [octets]
        for id, octets in self._server.rows(
            "SELECT message_id, data FROM message_parts ORDER BY message_id, seq"
        ):
            parts[id].append(octets)
        return [b"".join(each) for each in parts.values()]

    def close(self) -> None:
        """Whoever started it stops it."""


class SmtpSinkKeeper:
    """Postfix's `smtp-sink -d`: it writes a file for each message, every CRLF as LF."""

    isExact = False

    def __init__(self, program: str, directory: Path) -> None:
        self.port = freePort()
        self._directory = directory
        directory.chmod(0o777)  # it gives up the rights of root; the path to it may be closed
        self._process = subprocess.Popen(
            [program, "-u", "nobody", "-d", "m.", f"127.0.0.1:{self.port}", "100"],
            cwd=directory,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def contents(self) -> list[bytes]:
        return [_sunk(path.read_bytes()) for path in self._directory.iterdir()]

    def close(self) -> None:
        self._process.kill()
        self._process.wait(LIMIT)


def _sunk(dumped: bytes) -> bytes:
    head = _SINK_HEAD.match(dumped)
    assert head is not None, dumped[:300]
    # An empty line stands behind it.
    return dumped[head.end() : -1].replace(b"\n", b"\r\n")


class AiosmtpdKeeper:
    """Python's aiosmtpd in a process of its own."""

    isExact = False

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", RUN_AIOSMTPD, str(directory)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())

    def contents(self) -> list[bytes]:
        return [path.read_bytes() for path in self._directory.iterdir()]

    def close(self) -> None:
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(LIMIT)
        self._process.stdout.close()
