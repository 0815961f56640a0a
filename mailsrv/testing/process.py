"""An SMTP server in a process of its own, for tests that block."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mailsrv.smtp.message import Message
from mailsrv.store.dialect import SqliteDialect
from mailsrv.testing.inbox import messagesTo, missing
from mailsrv.testing.messages import readMessage

_START = 30.0  # seconds it may take on a busy machine
_STOP = 20.0
_PACKAGES = str(Path(__file__).parents[2])


class ServerProcess:
    """A MailServer in a process of its own: a context manager, to be used by any thread.

    `users`, `tls`, `logins` and `requireLogin` are those of a MailServer. It ends with the process
    that started it, however that ends.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        *,
        users: Sequence[str] = (),
        tls: bool = False,
        logins: Mapping[str, str] | None = None,
        requireLogin: bool = False,
    ) -> None:
        self.port = 0
        self.tlsPort = 0
        self.certificate = ""
        self.db = ""
        self._wishes = {
            "users": list(users),
            "tls": tls,
            "logins": dict(logins or {}),
            "requireLogin": requireLogin,
        }
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._folder: TemporaryDirectory[str] | None = None
        self._news = threading.Condition()
        self._isOver = False
        self._messages: list[Message] = []
        self._forgotten = 0

    def start(self) -> ServerProcess:
        """Start it, and wait until it listens; the server itself."""
        path = os.pathsep.join(filter(None, [_PACKAGES, os.environ.get("PYTHONPATH")]))
        # Ours, as a process that is killed removes nothing.
        self._folder = TemporaryDirectory(prefix="smtpstore-")
        self._process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "mailsrv.testing.child", json.dumps(self._wishes)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": path, "TMPDIR": self._folder.name},
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        with self._news:
            self._news.wait_for(lambda: self.port or self._isOver, _START)
        if not self.port:
            self.stop()
            raise RuntimeError("the server did not start; what it said is on standard error")
        return self

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._hear(json.loads(line))
        with self._news:
            self._isOver = True
            self._news.notify_all()

    def _hear(self, news: dict[str, Any]) -> None:
        # Committed, so it can be read; here, as the file is gone when the server is.
        message = readMessage(SqliteDialect(self.db), news["id"]) if "id" in news else None
        with self._news:
            if message is not None:
                self._messages.append(message)
            else:
                self.tlsPort, self.certificate = news["tlsPort"], news["certificate"]
                self.db, self.port = news["path"], news["port"]
            self._news.notify_all()

    def messages(self, to: str | None = None) -> list[Message]:
        """What was committed so far, oldest first; all of it, or what was sent to an address."""
        return messagesTo(self._messages[self._forgotten :], to)

    def forget(self) -> None:
        """Look at messages to come alone."""
        self._forgotten = len(self._messages)

    def waitFor(
        self, to: str | None = None, count: int = 1, timeout: float = 10.0
    ) -> list[Message]:
        """The messages to an address, as soon as `count` are committed.

        Raises AssertionError after `timeout` seconds; its text says what did come.
        """
        deadline = time.monotonic() + timeout
        with self._news:
            while len(found := self.messages(to)) < count:
                left = deadline - time.monotonic()
                if left <= 0 or self._isOver:
                    came = self._messages[self._forgotten :]
                    raise AssertionError(missing(came, to, count, timeout))
                self._news.wait(left)
        return found

    def stop(self) -> None:
        """End it; what was received stays to be looked at."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if self._reader is not None:
            self._reader.join()
        assert process.stdout is not None
        process.stdout.close()
        if self._folder is not None:
            self._folder.cleanup()

    def __enter__(self) -> ServerProcess:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
