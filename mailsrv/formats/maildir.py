"""Maildir: a file a message, in a folder with the folders new, cur and tmp."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mailsrv.formats.entry import Entry, Envelope, NotOurs, entryOf, idIn, moveSynced, writeFile

FOLDERS = ("cur", "new", "tmp")


def isMaildir(path: Path) -> bool:
    """Whether there is a Maildir; one without tmp is good enough to read."""
    return (path / "cur").is_dir() and (path / "new").is_dir()


class MaildirWriter:
    """Adds messages to new, by way of tmp, as `seconds.id.smtpstore`.

    What is in new or in cur under its id, read and flagged by somebody's program or not, is there.
    """

    after = ""

    def __init__(self, path: Path) -> None:
        if not isMaildir(path):
            if path.is_dir() and any(path.iterdir()):
                raise NotOurs(
                    f"{path} is a folder with other things in it; give a new or an empty folder,"
                    " or a Maildir"
                )
            path.mkdir(mode=0o700, exist_ok=True)
        for name in FOLDERS:
            (path / name).mkdir(mode=0o700, exist_ok=True)
        self._new = path / "new"
        self._tmp = path / "tmp"
        self._moves: list[tuple[Path, Path]] = []
        self._inCur = set(filter(None, map(idIn, os.listdir(path / "cur"))))

    def has(self, envelope: Envelope) -> bool:
        return envelope.id in self._inCur or (self._new / _name(envelope)).exists()

    def write(self, envelope: Envelope, pieces: Iterable[bytes]) -> None:
        name = _name(envelope)
        writeFile(self._tmp / name, envelope, pieces)
        self._moves.append((self._tmp / name, self._new / name))

    def flush(self) -> None:
        moves, self._moves = self._moves, []
        moveSynced(moves, self._new)

    def finish(self) -> None:
        self.flush()

    def close(self) -> None:
        """Nothing is held."""


def _name(envelope: Envelope) -> str:
    seconds = 0 if envelope.receivedAt is None else int(envelope.receivedAt.timestamp())
    return f"{max(seconds, 0)}.{envelope.id}.smtpstore"


class MaildirReader:
    """Reads new and cur; steps are files. Flags are not looked at."""

    def __init__(self, path: Path) -> None:
        self._folders = [path / "new", path / "cur"]
        self.length = sum(1 for _ in self._paths())

    def _paths(self) -> Iterator[Path]:
        for folder in self._folders:
            with os.scandir(folder) as found:
                for each in found:
                    if each.is_file() and not each.name.startswith("."):
                        yield Path(each.path)

    def entries(self) -> Iterator[Entry]:
        return map(entryOf, self._paths())
