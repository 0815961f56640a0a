"""A real twistd in a process of its own."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mailsrv.store.dialect import parseUrl

ROOT = Path(__file__).parents[2]
RUN_TWISTD = str(Path(__file__).with_name("runtwistd.py"))
TWISTD = [sys.executable, RUN_TWISTD]
_CLI = "from mailsrv.cli import main; main()"
LIMIT = 20.0  # seconds until whatever is waited for must have happened


def environment(**more: str) -> dict[str, str]:
    """That of the tests, without options of ours, and with this tree importable anywhere."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("SMTPSTORE_")}
    paths = [str(ROOT), sysconfig.get_path("purelib"), os.environ.get("PYTHONPATH", "")]
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **more}


def runTwistd(
    directory: Path,
    *args: str,
    env: Mapping[str, str] | None = None,
    python: Sequence[str] = (sys.executable,),
) -> subprocess.CompletedProcess[str]:
    """Run a twistd that is expected to end at once."""
    return subprocess.run(
        [*python, RUN_TWISTD, *args],
        cwd=directory,
        env=environment(**(env or {})),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )


def pythonForAll() -> Sequence[str]:
    """A Python that other users may read: the one in root's own home is not."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    # -S: of the system's Python nothing but its standard library.
    for python in ((sys.executable,), (f"/usr/bin/python{version}", "-S")):
        if Path(python[0]).exists():
            asked = subprocess.check_output([*python, "-c", "import os; print(os.__file__)"])
            library = Path(os.fsdecode(asked).strip())
            if all(each.stat().st_mode & 0o001 for each in library.parents):
                return python
    pytest.skip(f"no Python {version} that other users may read")


class Server:
    """A running server: its `port`, its database's `url`, its `process`, its `log` so far, line by
    line; `db` is the file, where it is SQLite's."""

    def __init__(self, process: subprocess.Popen[str], directory: Path, url: str) -> None:
        self.process = process
        self.directory = directory
        self.url = url
        self.db = Path(url.removeprefix("sqlite:"))
        self.log: list[str] = []
        self.mayFail = False
        self._news = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.log.append(line.rstrip("\n"))
                self._news.notify_all()

    def waitFor(self, pattern: str, limit: float = LIMIT) -> re.Match[str]:
        """The first line of the log, so far or still to come, in which `pattern` is found."""
        deadline = time.monotonic() + limit
        seen = 0
        with self._news:
            while True:
                for line in self.log[seen:]:
                    match = re.search(pattern, line)
                    if match:
                        return match
                seen = len(self.log)
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not self._reader.is_alive()):
                    pytest.fail(f"no {pattern!r} in the log:\n" + "\n".join(self.log))
                self._news.wait(min(left, 0.1))

    @property
    def port(self) -> int:
        return self.portOf("SMTP")

    def portOf(self, name: str) -> int:
        """The port that the log gives this name: SMTP, Submission, SMTPS, LMTP."""
        return int(self.waitFor(rf"\b{name} listens on 127\.0\.0\.1:(\d+)")[1])

    def addUser(self, address: str, password: str) -> None:
        """A user who can log in, made as a person would."""
        subprocess.run(
            [sys.executable, "-c", _CLI, "user", "add", address, "--password-stdin"],
            input=password,
            env=environment(SMTPSTORE_DB=self.url),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            check=True,
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        """A connection, nothing read yet."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=LIMIT)

    def rows(self, sql: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """What the database holds, asked by a connection of its own."""
        connection = parseUrl(self.url).connect()
        try:
            txn = connection.cursor()
            txn.execute(sql, parameters)
            return list(txn.fetchall())
        finally:
            connection.close()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop it in the ordinary way; its exit status, negative for a signal."""
        self.process.send_signal(number)
        status = self.process.wait(LIMIT + 5)
        self._reader.join(LIMIT)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


StartServer = Callable[..., Server]
