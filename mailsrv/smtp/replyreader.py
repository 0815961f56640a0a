"""Replies as a client reads them: strict and bounded (RFC 5321 §4.2, §4.2.1)."""

from __future__ import annotations

import re

from mailsrv.smtp.reply import Reply

MAX_LINE = 2048  # octets with CRLF; §4.5.3.1.5 says 512, extensions may go over it
MAX_LINES = 200
MAX_REPLY = 65_536  # octets of all its lines: a hundred of them may be kept for one message

_LINE_RE = re.compile(rb"([2-5][0-5][0-9])(?:([ -])([^\0\r\n]*+))?")
_CONTROLS = re.compile(r"[\x01-\x1f\x7f]")
_ENHANCED_RE = re.compile(r"([245]\.[0-9]{1,3}\.[0-9]{1,3})(?: |\Z)")


class MalformedReply(Exception):
    """What has come is no reply: nothing behind it can be believed either."""


class ReplyReader:
    """Makes replies of octets that come cut anywhere: `feed` them, ask `next` until it is None.

    A line is three digits, then nothing, or a space or hyphen and text; it ends with CRLF, and
    all lines of a reply begin with the same code. At most 2,048 octets a line, 200 lines, 64 KiB.
    Octets over 127 are read as UTF-8, what is not becomes U+FFFD, and
    control characters become spaces. The enhanced status code
    (RFC 2034) is taken off the lines that begin with the first line's.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._code = b""
        self._lines: list[str] = []
        self._size = 0  # octets of these

    @property
    def isEmpty(self) -> bool:
        """Whether nothing is left over: no octet, no line of an unfinished reply."""
        return not self._buffer and not self._lines

    def feed(self, data: bytes) -> None:
        """Take what has arrived; any size, also b''."""
        self._buffer += data

    def next(self) -> Reply | None:
        """The next whole reply, or None; raises MalformedReply."""
        while True:
            end = self._buffer.find(b"\n", 0, MAX_LINE)
            if end < 0:
                if len(self._buffer) >= MAX_LINE:
                    raise MalformedReply("line too long")
                return None
            line, self._buffer = self._buffer[: end + 1], self._buffer[end + 1 :]
            if self._isLast(line):
                reply = _made(self._code, self._lines)
                self._lines, self._size = [], 0
                return reply

    def _isLast(self, line: bytes) -> bool:
        """Take one line, with its end; whether it is the last of its reply."""
        match = _LINE_RE.fullmatch(line, 0, len(line) - 2)
        if match is None or not line.endswith(b"\r\n"):
            raise MalformedReply("not a line of a reply")
        if self._lines and match[1] != self._code:
            raise MalformedReply("lines of one reply with different codes")
        self._size += len(line)
        if len(self._lines) >= MAX_LINES or self._size > MAX_REPLY:
            raise MalformedReply("too many lines")
        self._code = match[1]
        self._lines.append(_CONTROLS.sub(" ", (match[3] or b"").decode("utf-8", "replace")))
        return match[2] != b"-"


def _made(code: bytes, lines: list[str]) -> Reply:
    found = _ENHANCED_RE.match(lines[0])
    # A status of another class than its code would say two things at once.
    if found is None or ord(found[1][0]) != code[0]:
        return Reply(int(code), "", tuple(lines))
    return Reply(int(code), found[1], tuple(_without(found[1], line) for line in lines))


def _without(enhanced: str, line: str) -> str:
    """The line without the status at its beginning; as it is where it has another, or none."""
    if line == enhanced or line.startswith(f"{enhanced} "):
        return line[len(enhanced) + 1 :]
    return line
