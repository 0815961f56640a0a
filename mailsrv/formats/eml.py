""".eml: a file a message, the octets and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mailsrv.formats.entry import Entry, Envelope, NotOurs, entryOf, idIn, moveSynced, writeFile

_ENDING = ".eml"
_PART = ".part"


class EmlWriter:
    """Writes `id.eml` for each message into a folder; what is there under its id is there."""

    after = ""

    def __init__(self, path: Path) -> None:
        if path.is_dir() and not all(idIn(name.removesuffix(_PART)) for name in os.listdir(path)):
            raise NotOurs(
                f"{path} is a folder with other things in it; give a new or an empty folder"
            )
        path.mkdir(mode=0o700, exist_ok=True)
        self._folder = path
        self._moves: list[tuple[Path, Path]] = []

    def has(self, envelope: Envelope) -> bool:
        return (self._folder / f"{envelope.id}{_ENDING}").exists()

    def write(self, envelope: Envelope, pieces: Iterable[bytes]) -> None:
        target = self._folder / f"{envelope.id}{_ENDING}"
        part = target.with_name(target.name + _PART)
        writeFile(part, envelope, pieces)
        self._moves.append((part, target))

    def flush(self) -> None:
        moves, self._moves = self._moves, []
        moveSynced(moves, self._folder)

    def finish(self) -> None:
        self.flush()

    def close(self) -> None:
        """Nothing is held."""


class EmlReader:
    """Reads one file, or all files of a folder that end with .eml; steps are files."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.length = sum(1 for _ in self._paths())

    def _paths(self) -> Iterator[Path]:
        if not self._path.is_dir():
            yield self._path
            return
        with os.scandir(self._path) as found:
            for each in found:
                if each.is_file() and each.name.lower().endswith(_ENDING):
                    yield Path(each.path)

    def entries(self) -> Iterator[Entry]:
        return map(entryOf, self._paths())
