"""Where content waits for its COMMIT: in memory while it is small, then in a temporary file."""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections import deque
from collections.abc import Iterable, Iterator
from io import FileIO
from threading import Lock

from mailsrv.smtp.errors import OutOfRoom

IN_MEMORY = 65_536  # octets of content kept in memory, and the most of one write to the disk
WHILE_PLENTY = 2 * 2**20  # octets kept there while the memory for all spools is mostly free
_UNSHARED = 2047  # octets, the most for which hashlib does not let other threads run meanwhile


class Allowance:
    """How many octets all spools together may hold of one kind: `limit`, and `held` now.

    Octets are taken in the reactor thread and given back in any: what comes back waits in a
    deque until the reactor thread looks. So no lock is needed, which a spool that the garbage
    collector drops in the middle of `take` would find held.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._held = 0
        self._returned: deque[int] = deque()

    def hasPlentyFor(self, octets: int) -> bool:
        """Whether with so many more a quarter is held at the most; asked in the reactor thread."""
        return 4 * (self.held + octets) <= self.limit

    @property
    def held(self) -> int:
        """Octets held now; to be asked in the reactor thread."""
        while self._returned:
            self._held -= self._returned.popleft()
        return self._held

    def take(self, octets: int) -> None:
        """Hold `octets` more; raises OutOfRoom, and holds none of them, over the limit."""
        held = self.held
        if held + octets > self.limit:
            raise OutOfRoom(f"{held} of {self.limit} octets are held, {octets} more asked")
        self._held = held + octets

    def giveBack(self, octets: int) -> None:
        """Hold `octets` fewer."""
        self._returned.append(octets)


class SpoolBudget:
    """What all spools of the process may hold, octets of `memory` and of `disk`: two Allowances."""

    def __init__(self, memory: int = 256 * 2**20, disk: int = 4 * 2**30) -> None:
        self.memory = Allowance(memory)
        self.disk = Allowance(disk)


class Spool:
    """A Content that grows: in memory while it is small, beyond that in a file without a name.

    Up to 64 KiB stay in memory, and while a quarter of its budget is held at the most up to 2 MiB,
    as much as a batch of the database holds: 1 MiB in a file costs 1.5 ms more of CPU.

    Written in the reactor thread, then read in any. `directory`: where the file is made, mode
    0600; None: the system's temporary directory. It only waits for the COMMIT, so there is never
    an fsync. `size` and `sha256` stay readable after close().

    Up to 64 KiB are hashed where they are asked for, in the thread of the database: 2.5 µs for
    4 KiB. What is larger is hashed as it comes.
    """

    def __init__(self, budget: SpoolBudget, directory: str | None = None) -> None:
        self._budget = budget
        self._directory = directory
        self._allowance = budget.memory
        self._size = 0
        self._digest: hashlib._Hash | None = None
        # Blocks of about 64 KiB, however small the octets come: one that grows to 1 MiB is copied
        # eight times over on its way.
        self._memory: list[bytearray] = []
        self._file: _SpoolFile | None = None
        self._closed = Lock()  # acquired once, by whichever thread closes first

    def __del__(self) -> None:
        # weakref.finalize would cost more than the rest of a small spool's life.
        self.close()

    @property
    def size(self) -> int:
        return self._size

    @property
    def sha256(self) -> str:
        memory = self._memory  # first: who closes the spool has the digest before the octets go
        digest = self._digest or _digestOf(memory)
        self._digest = digest
        return digest.hexdigest()

    @property
    def isInMemory(self) -> bool:
        """Whether there is no file."""
        return self._file is None

    def write(self, octets: bytes) -> None:
        """Add octets.

        Raises OutOfRoom where the budget is exhausted or the disk does not take them (any
        OSError). The spool is closed then and holds nothing; so is every later write refused.
        """
        if self._closed.locked():
            raise OutOfRoom("the spool is closed")
        if self._digest is None and self._size + len(octets) > IN_MEMORY:
            self._digest = _digestOf(self._memory)
        try:
            self._hold(octets)
        except (OutOfRoom, OSError) as error:
            self.close()
            # Without its traceback, whose frames would hold the file as long as the error lives.
            raise OutOfRoom(f"no room in the spool: {error}") from error.with_traceback(None)
        if self._digest is not None:
            self._digest.update(octets)

    def _hold(self, octets: bytes) -> None:
        length = len(octets)
        size = self._size + length
        if size > IN_MEMORY and self._file is None and not self._hasPlentyFor(length):
            self._moveToFile()
        self._allowance.take(length)
        self._size = size
        if self._file is not None:
            self._file.write(octets)
        elif self._memory and len(self._memory[-1]) < IN_MEMORY:
            self._memory[-1] += octets
        else:
            self._memory.append(bytearray(octets))

    def _hasPlentyFor(self, octets: int) -> bool:
        """Whether what is not small any more stays in memory with so many more."""
        size = self._size + octets
        return size <= WHILE_PLENTY and self._budget.memory.hasPlentyFor(octets)

    def _moveToFile(self) -> None:
        file = _SpoolFile(tempfile.TemporaryFile(buffering=0, dir=self._directory))  # noqa: SIM115
        self._budget.disk.take(self._size)
        self._allowance.giveBack(self._size)
        self._allowance = self._budget.disk
        self._file = file
        for block in self._memory:
            file.write(block)
        self._memory = []

    def head(self, limit: int) -> bytes:
        """The first `limit` octets (fewer where the content is shorter)."""
        memory = self._memory
        if len(memory) == 1 and self._size <= limit:
            return bytes(memory[0])  # as most are: 0.4 µs in place of 1.3
        return next(self.pieces(limit), b"") if limit else b""

    def pieces(self, size: int, offset: int = 0) -> Iterator[bytes]:
        """The octets from `offset` on, `size` at a time; each call starts anew.

        Raises ValueError where the spool is closed, OSError where the file cannot be read. A
        reader that has begun may end, whoever closes the spool meanwhile.
        """
        memory, file = self._memory, self._file
        if self._closed.locked():
            raise ValueError("the spool is closed")
        for start in range(offset, self._size, size):
            end = min(start + size, self._size)
            yield _cut(memory, start, end) if file is None else file.read(start, end)

    def close(self) -> None:
        """Give memory, file and budget back; may be called twice, and from any thread."""
        if self._closed.acquire(blocking=False):
            # The octets go when the last reader lets go of them.
            self._digest = self._digest or _digestOf(self._memory)
            self._memory = []
            self._file = None
            if self._size:
                self._allowance.giveBack(self._size)


def _digestOf(blocks: Iterable[bytearray]) -> hashlib._Hash:
    """SHA-256 of all the blocks, of small content.

    Piece by piece, since to get the interpreter back from a busy reactor takes longer than to hash
    4 KiB: half the futex calls of a batch.
    """
    digest = hashlib.sha256()
    for block in blocks:
        for start in range(0, len(block), _UNSHARED):
            digest.update(block[start : start + _UNSHARED])
    return digest


def _cut(blocks: Iterable[bytearray], start: int, end: int) -> bytes:
    """The octets from `start` to `end` of all blocks, copied once."""
    wanted = []
    for block in blocks:
        if start < len(block) and end > 0:
            wanted.append(memoryview(block)[max(start, 0) : end])
        start -= len(block)
        end -= len(block)
    return b"".join(wanted)


class _SpoolFile:
    """A temporary file, closed when nobody refers to it any more.

    Not by a call: while a database thread reads, the number of a closed descriptor may already
    be that of another message's file.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file

    def __del__(self) -> None:
        self._file.close()

    def write(self, octets: bytes | bytearray) -> None:
        """Append `octets`, at most 64 KiB a call of the system."""
        left = memoryview(octets)
        while left:
            left = left[os.write(self._file.fileno(), left[:IN_MEMORY]) :]

    def read(self, start: int, end: int) -> bytes:
        """The octets from `start` to `end`; readers share no position."""
        octets = os.pread(self._file.fileno(), end - start, start)
        if len(octets) < end - start:
            raise OSError(errno.EIO, "the spool file is shorter than what was written")
        return octets
