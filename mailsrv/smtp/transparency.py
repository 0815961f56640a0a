"""Content on its way out: transparency, by whole chunks (RFC 5321 §2.3.8, §4.5.2)."""

from __future__ import annotations

import re

from mailsrv.smtp.content import hasBareNewline

_NEWLINE = re.compile(rb"\r\n|\r|\n")


class BareNewline(ValueError):
    """The content holds a CR or an LF alone, which DATA must not carry."""


class DotStuffer:
    """Makes content ready for DATA: a dot before each line that begins with one, then the end.

    Chunks may be cut anywhere; at most one CR is kept back. A bare CR or LF raises BareNewline
    before an octet of its chunk is given out: what one receiver takes for a line, or for the end
    of the data, another may not, so none is ever sent. Content that does not end with CRLF
    gets one, since the end of the data begins with it.
    """

    def __init__(self) -> None:
        self._keptBack = b""
        self._isLineBegin = True

    def feed(self, data: bytes) -> bytes:
        """The octets to send for a chunk of content; any size, also b''."""
        data = self._keptBack + data
        self._keptBack = b"\r" if data.endswith(b"\r") else b""
        if self._keptBack:
            data = data[:-1]
        if not data:
            return b""
        if hasBareNewline(data):
            raise BareNewline
        stuffed = data.replace(b"\r\n.", b"\r\n..")
        if self._isLineBegin and data.startswith(b"."):
            stuffed = b"." + stuffed
        self._isLineBegin = data.endswith(b"\r\n")
        return stuffed

    def finish(self) -> bytes:
        """The octets that end the data; raises BareNewline where a CR was the last octet."""
        if self._keptBack:
            raise BareNewline
        return b".\r\n" if self._isLineBegin else b"\r\n.\r\n"


class NewlineNormaliser:
    """Makes CRLF of every CRLF, CR and LF: text of this machine becomes content of a message."""

    def __init__(self) -> None:
        self._keptBack = b""

    def feed(self, data: bytes) -> bytes:
        """The lines of a chunk of text; any size, also b''."""
        data = self._keptBack + data
        self._keptBack = b"\r" if data.endswith(b"\r") else b""
        return _NEWLINE.sub(b"\r\n", data[:-1] if self._keptBack else data)

    def finish(self) -> bytes:
        """What is still owed at the end of the text."""
        return b"\r\n" if self._keptBack else b""
