"""A next hop that says what it is told to, and remembers what it hears."""

from __future__ import annotations

import socket
import threading
from collections.abc import Mapping
from contextlib import suppress


class FakeHost:
    """Answers each verb by `answers`, anything else 250, None with silence; `heard` is every line,
    in order."""

    def __init__(self, answers: Mapping[str, str | None]) -> None:
        self.heard: list[str] = []
        self._answers = answers
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        with suppress(OSError), connection, connection.makefile("rb") as file:
            connection.sendall(b"220 fake.example ESMTP\r\n")
            for line in file:
                self.heard.append(line.decode("latin-1").rstrip("\r\n"))
                verb = self.heard[-1].split(" ")[0].upper()
                answer = self._answers.get(verb, "250 OK")
                if answer is not None:
                    connection.sendall(answer.encode() + b"\r\n")
