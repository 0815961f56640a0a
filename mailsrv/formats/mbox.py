"""mbox, the kind called mboxrd: all messages in one file, and every octet comes back.

A message is a line `From sender date id`, its octets with quoted lines, and one line feed, which
is no part of it. So nothing is lost of a message that does not end with a line.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mailsrv.formats.entry import ID, PIECE, Entry, Envelope, NotOurs, spooled, syncPath
from mailsrv.formats.quoting import quoted, unquoted

NOBODY = "MAILER-DAEMON"  # stands for the sender <>

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_UNSAFE = re.compile(r"[\x00-\x1f\x7f]")
# Of others' files too: who did not quote wrote From without a time of day in texts.
_SEPARATOR = re.compile(rb"From .*\d:\d\d")
_FROM = re.compile(
    rf"From (?:(.*) )? *(?:{'|'.join(_DAYS)}),? +({'|'.join(_MONTHS)}) +(\d\d?) +"
    r"(\d\d?):(\d\d)(?::(\d\d))?(?: +(?:([+-])(\d\d)(\d\d)|[A-Z]+))? +(\d{4})"
    rf"(?: +(?:[+-]\d{{4}}|[A-Z]+))?(?: +({ID}))?\s*"
)
_OURS = re.compile(rf"\nFrom [^\n]* ({ID})\n".encode())
_LONGEST_FROM = 4096  # octets of a line that begins a message
_FIRST_YEAR = 1000  # that databases know
_LONGEST_SENDER = 1000  # characters


def fromLine(envelope: Envelope) -> bytes:
    """The line that begins a message, its date in UTC."""
    sender = _UNSAFE.sub("?", envelope.sender or "")[:_LONGEST_SENDER] or NOBODY
    t = envelope.receivedAt or datetime.fromtimestamp(0, UTC)
    # Not by strftime: its names depend on the locale.
    date = f"{_DAYS[t.weekday()]} {_MONTHS[t.month - 1]} {t.day:2} {t:%H:%M:%S} {t.year:04}"
    return f"From {sender} {date} {envelope.id}".rstrip().encode("utf-8", "replace") + b"\n"


def parseFromLine(line: bytes) -> Envelope:
    """What such a line says; nothing where it makes no sense."""
    match = _FROM.fullmatch(line[:_LONGEST_FROM].decode("utf-8", "replace"))
    if match is None:
        return Envelope()
    sender, month, day, hour, minute, second, sign, zoneHours, zoneMinutes, year, id = (
        match.groups()
    )
    try:
        moment = datetime(
            int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute),
            int(second or 0), tzinfo=UTC,
        )  # fmt: skip
        if sign:
            offset = timedelta(hours=int(zoneHours), minutes=int(zoneMinutes))
            moment += -offset if sign == "+" else offset
    except (ValueError, OverflowError):
        return Envelope(id or "")
    if moment.year < _FIRST_YEAR:
        return Envelope(id or "")
    name = (sender or "").strip()
    return Envelope(id or "", moment, "" if name in (NOBODY, "-") else name)


class MboxWriter:
    """Writes `path`, which appears, whole, when it is finished.

    Until then the messages are in `part`. Where that is there already, its last message, which
    may be cut short, is written anew and the others are kept.
    """

    def __init__(self, path: Path, part: Path) -> None:
        self._path = path
        self._part = part
        self._file = open(os.open(part, os.O_RDWR | os.O_CREAT, 0o600), "r+b")  # noqa: SIM115
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise NotOurs(f"{path} is being written by another export; wait for it") from None
        last, end = self._lastMessage()
        self._file.truncate(end)
        self._file.seek(end)
        # Whose turn it is again: no id is smaller than what stands before it.
        self.after = _before(last) if last else ""

    def has(self, envelope: Envelope) -> bool:
        return False

    def write(self, envelope: Envelope, pieces: Iterable[bytes]) -> None:
        start = self._file.tell()
        try:
            self._file.write(fromLine(envelope))
            self._file.writelines(quoted(pieces))
            self._file.write(b"\n")
        except BaseException:
            self._file.seek(start)
            self._file.truncate()
            raise

    def flush(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())

    def finish(self) -> None:
        self.flush()
        self._part.replace(self._path)
        syncPath(self._path.parent)

    def close(self) -> None:
        self._file.close()

    def _lastMessage(self) -> tuple[str, int]:
        """The id of the last message that was begun, and where; '' and 0 where there is none."""
        end = self._file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(end - (1 << 20), 0)
            self._file.seek(start)
            # The line feed that ends the line before is not there at the start of the file.
            block = self._file.read(end - start + _LONGEST_FROM)
            block, shift = (b"\n" + block, 0) if start == 0 else (block, 1)
            found = list(_OURS.finditer(block))
            if found:
                return found[-1][1].decode(), start + found[-1].start() + shift
            end = start
        return "", 0


def _before(id: str) -> str:
    """A text behind which `id` comes first of all ids, and in front of which all smaller ones."""
    return id[:-1] + chr(ord(id[-1]) - 1) + "\x7f" if id else ""


class MboxReader:
    """Reads an mbox, CRLF or LF at the ends of its own lines; steps are octets.

    As in mboxrd, `>From ` loses a `>`, and a line `From ` with a time of day begins a message.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.length = path.stat().st_size

    def entries(self) -> Iterator[Entry]:
        with self._path.open("rb") as file:
            lines = _Lines(iter(lambda: file.readline(PIECE), b""))
            begun = 0
            while lines.separator:
                envelope = parseFromLine(lines.separator)
                content = spooled(unquoted(lines.untilSeparator()))
                yield Entry(envelope, content, lines.position - begun)
                begun = lines.position


class _Lines:
    """The lines of an mbox; `separator` is the one that begins the message to be read next, b''
    at the end; `position` counts octets."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self.separator = next(lines, b"")
        self.position = len(self.separator)

    def untilSeparator(self) -> Iterator[bytes]:
        """The octets of a message, some 64 KiB at a time, without the line feed behind them."""
        newline = b"\r\n" if self.separator.endswith(b"\r\n") else b"\n"
        self.separator = b""
        isStart = True
        held: list[bytes] = []
        size = 0
        for line in self._lines:
            self.position += len(line)
            if isStart and line.startswith(b"From ") and _SEPARATOR.match(line):
                self.separator = line
                break
            isStart = line.endswith(b"\n")
            held.append(line)
            size += len(line)
            if size > PIECE:
                octets = b"".join(held)
                yield octets[:-2]
                held, size = [octets[-2:]], 2
        last = b"".join(held)
        yield last[: -len(newline)] if last.endswith(newline) else last.removesuffix(b"\n")
