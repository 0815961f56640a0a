"""A message in a file, on its way in or out."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Protocol

from mailsrv.smtp.message import Content

PIECE = 1 << 16  # octets read at a time
IN_MEMORY = 1 << 18  # octets of a message taken out of an mbox that need no temporary file

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ID = r"[0-7][0-9A-HJKMNP-TV-Z]{25}"  # a message's id: a ULID


@dataclass(frozen=True, slots=True)
class Envelope:
    """What a file can say of a message beside its octets.

    `id`: 26 characters; '' where it names none of ours. `receivedAt`: aware, UTC; None: not known.
    `sender`: the reverse-path, '' for <>; None: not known.
    """

    id: str = ""
    receivedAt: datetime | None = None
    sender: str | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A message that was read; `content` is to be closed by whoever gets it.

    `step`: by how much reading has come nearer to the `length` of the source.
    """

    envelope: Envelope
    content: Content
    step: int


class Source(Protocol):
    """A mailbox to read; `length` is what the steps of its entries come to."""

    length: int

    def entries(self) -> Iterator[Entry]:
        """The messages, one at a time."""


class Destination(Protocol):
    """A mailbox to write, cut off and taken up again as often as need be.

    `after`: the id behind which writing begins, '' for the first; what comes is in order of ids.
    """

    after: str

    def has(self, envelope: Envelope) -> bool:
        """Whether the message is there already, whole."""

    def write(self, envelope: Envelope, pieces: Iterable[bytes]) -> None:
        """Add a message; after a failure in `pieces` nothing of it is there."""

    def flush(self) -> None:
        """Have all that was written on the disk, under the name it is looked for."""

    def finish(self) -> None:
        """Nothing more will come; what was written is on the disk."""

    def close(self) -> None:
        """Let go of it, finished or not."""


class NotOurs(Exception):
    """What is there already is something else; the text says what to do."""


class FileContent:
    """A Content in a file that can be read again; `close` closes the file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        digest = hashlib.sha256()
        self.size = 0
        for piece in self._read(PIECE, 0):
            digest.update(piece)
            self.size += len(piece)
        self.sha256 = digest.hexdigest()

    def head(self, limit: int) -> bytes:
        self._file.seek(0)
        return self._file.read(limit)

    def pieces(self, size: int, offset: int = 0) -> Iterator[bytes]:
        return self._read(size, offset)

    def _read(self, size: int, offset: int) -> Iterator[bytes]:
        self._file.seek(offset)
        while piece := self._file.read(size):
            offset += len(piece)
            yield piece
            self._file.seek(offset)

    def close(self) -> None:
        self._file.close()


def spooled(pieces: Iterable[bytes]) -> FileContent:
    """The octets as a Content: in memory while they are few."""
    file = SpooledTemporaryFile(IN_MEMORY)  # noqa: SIM115 - closed with the content
    try:
        for piece in pieces:
            file.write(piece)
        return FileContent(file)
    except BaseException:
        file.close()
        raise


def entryOf(path: Path) -> Entry:
    """The message that is all of a file; received when the file was written last."""
    file = path.open("rb")
    try:
        modified = _fromNanoseconds(os.fstat(file.fileno()).st_mtime_ns)
        return Entry(Envelope(idIn(path.name), modified), FileContent(file), 1)
    except BaseException:
        file.close()
        raise


def _fromNanoseconds(time: int) -> datetime | None:
    try:
        return _EPOCH + timedelta(microseconds=time // 1000)
    except OverflowError:
        return None


_NAMED = re.compile(rf"(?:\d+\.)?({ID})(?:\.smtpstore\b.*|\.eml)")


def idIn(name: str) -> str:
    """The id in the name of a file that was exported; '' where there is none."""
    match = _NAMED.fullmatch(name)
    return "" if match is None else match[1]


def writeFile(path: Path, envelope: Envelope, pieces: Iterable[bytes]) -> None:
    """Write a file, mode 0600, that was modified when the message was received."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.writelines(pieces)
        file.flush()
        if envelope.receivedAt is not None:
            time = (envelope.receivedAt - _EPOCH) // timedelta(microseconds=1) * 1000
            os.utime(file.fileno(), ns=(time, time))


def moveSynced(moves: Iterable[tuple[Path, Path]], folder: Path) -> None:
    """Give files their names in `folder` once they are on the disk, and the names likewise.

    All files first, then all names: the disk takes many at once as quickly as one.
    """
    moves = list(moves)
    for source, _ in moves:
        syncPath(source)
    for source, target in moves:
        source.replace(target)
    syncPath(folder)


def syncPath(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
