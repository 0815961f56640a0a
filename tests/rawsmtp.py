"""An SMTP client that sends exactly the octets it is given, and believes what it reads."""

from __future__ import annotations

import socket
from types import TracebackType


def onTheWire(octets: bytes) -> bytes:
    """The octets as DATA carries them: dots doubled, and the end of the data behind them."""
    stuffed = (b"\r\n" + octets).replace(b"\r\n.", b"\r\n..")[2:]
    end = b".\r\n" if stuffed.endswith(b"\r\n") or not stuffed else b"\r\n.\r\n"
    return stuffed + end


class RawSmtp:
    """A connection in blocking steps; `octets` go out as they are."""

    def __init__(self, port: int, limit: float = 30.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=limit)
        self._file = self._socket.makefile("rb")
        self.reply()

    def __enter__(self) -> RawSmtp:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        self._socket.close()

    def send(self, octets: bytes) -> None:
        self._socket.sendall(octets)

    def reply(self) -> str:
        """The next reply, all its lines; raises ConnectionError where there is none."""
        lines = []
        while True:
            line = self._file.readline()
            if not line.endswith(b"\r\n"):
                raise ConnectionError(f"the connection ended behind {lines}")
            lines.append(line.decode())
            if line[3:4] != b"-":
                return "".join(lines)

    def command(self, line: str) -> str:
        self.send(line.encode() + b"\r\n")
        return self.reply()

    def begin(self, sender: str = "a@example.com", *recipients: str) -> None:
        """EHLO, MAIL, RCPT and DATA, each of which must succeed."""
        self.command("EHLO client.example")
        self.envelope(sender, *recipients)

    def envelope(self, sender: str = "a@example.com", *recipients: str) -> None:
        assert self.command(f"MAIL FROM:<{sender}>").startswith("250 ")
        for recipient in recipients or ("b@example.org",):
            assert self.command(f"RCPT TO:<{recipient}>").startswith("250 ")
        assert self.command("DATA").startswith("354 ")

    def content(self, octets: bytes) -> str:
        """The octets, dots doubled, and the end of the data; the reply."""
        self.send(onTheWire(octets))
        return self.reply()
