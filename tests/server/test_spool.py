"""The spool: content in memory or on disk, and the account of both."""

from __future__ import annotations

import errno
import gc
import hashlib
import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsrv.server.spool import IN_MEMORY, WHILE_PLENTY, Allowance, Spool, SpoolBudget
from mailsrv.smtp.errors import OutOfRoom
from mailsrv.smtp.message import Content

PATTERN = bytes(range(251))
LARGE = PATTERN * 1000  # 251,000 octets: no two pieces alike
LITTLE = 1 << 18  # octets of memory of which 64 KiB leave nobody plenty


@pytest.fixture
def budget() -> SpoolBudget:
    """So little memory that what is over 64 KiB goes into a file."""
    return SpoolBudget(memory=LITTLE)


def held(budget: SpoolBudget) -> tuple[int, int]:
    return budget.memory.held, budget.disk.held


def filled(budget: SpoolBudget, octets: bytes, chunk: int = 1460) -> Spool:
    spool = Spool(budget)
    for start in range(0, len(octets), chunk):
        spool.write(octets[start : start + chunk])
    return spool


def openFiles() -> set[str]:
    paths = {f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")}
    return {path for path in paths if os.path.exists(path)}  # without that of the listing itself


@pytest.fixture
def fileSizeLimit() -> Iterator[int]:
    """A real limit of the kernel's on what a file may hold (EFBIG; Python ignores SIGXFSZ)."""
    limit = 150_000
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    yield limit
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class TestWhatWasWrittenIsRead:
    @settings(max_examples=60, deadline=None)
    @given(
        sizes=st.lists(
            st.sampled_from([0, 1, 100, 1460, 30_000, IN_MEMORY - 1, IN_MEMORY, 70_000, 140_000]),
            max_size=6,
        ),
        size=st.sampled_from([1000, 4096, IN_MEMORY, 1_048_576]),
        offset=st.sampled_from([0, 1, 999, IN_MEMORY, 100_000, 10_000_000]),
        memory=st.sampled_from([LITTLE, 256 << 20]),
    )
    def test_inAnyChunksAndPieces(
        self, sizes: list[int], size: int, offset: int, memory: int
    ) -> None:
        budget = SpoolBudget(memory=memory)
        spool = Spool(budget)
        octets = b""
        for number, length in enumerate(sizes):
            chunk = (PATTERN[number:] + PATTERN * (length // len(PATTERN)))[:length]
            octets += chunk
            spool.write(chunk)
        content: Content = spool
        assert content.size == len(octets)
        assert content.sha256 == hashlib.sha256(octets).hexdigest()
        assert content.head(size) == octets[:size]
        assert list(content.pieces(size, offset)) == [
            octets[start : start + size] for start in range(offset, len(octets), size)
        ]
        assert b"".join(content.pieces(size)) == octets
        assert spool.isInMemory == (len(octets) <= IN_MEMORY or memory > LITTLE)
        assert sum(held(budget)) == len(octets)
        content.close()
        assert held(budget) == (0, 0)

    @pytest.mark.parametrize("octets", [LARGE[:5000], LARGE])
    def test_severalReadersDoNotDisturbOneAnother(self, budget: SpoolBudget, octets: bytes) -> None:
        spool = filled(budget, octets)
        one, other = spool.pieces(700), spool.pieces(1100)
        first = [next(one), next(other), next(one)]
        assert first == [octets[:700], octets[:1100], octets[700:1400]]
        assert b"".join(spool.pieces(900)) == octets
        assert first[0] + first[2] + b"".join(one) == octets
        spool.close()

    def test_theDigestIsThatOfAllOctetsWheneverItIsAskedFor(self, budget: SpoolBudget) -> None:
        spool = Spool(budget)
        for end in (0, 5000, IN_MEMORY, IN_MEMORY + 1, len(LARGE)):
            spool.write(LARGE[spool.size : end])
            assert spool.sha256 == hashlib.sha256(LARGE[:end]).hexdigest()
        spool.close()

    def test_theHeadOfNothingIsNothing(self, budget: SpoolBudget) -> None:
        spool = Spool(budget)
        assert (spool.head(10), spool.size, list(spool.pieces(10))) == (b"", 0, [])
        spool.write(b"abc")
        assert spool.head(0) == b""
        spool.close()

    def test_anotherThreadReadsIt(self, budget: SpoolBudget) -> None:
        spool = filled(budget, LARGE)
        got: list[bytes] = []

        def readAndClose() -> None:
            got.extend(spool.pieces(10_000))
            spool.close()

        thread = Thread(target=readAndClose)
        thread.start()
        thread.join(10)
        assert b"".join(got) == LARGE
        assert held(budget) == (0, 0)


class TestTheFile:
    def test_isMadeByTheFirstOctetOver2MiB(self) -> None:
        budget = SpoolBudget()
        spool = filled(budget, (LARGE * 9)[:WHILE_PLENTY], 30_000)
        assert (spool.isInMemory, held(budget)) == (True, (WHILE_PLENTY, 0))
        spool.write(b"x")
        assert (spool.isInMemory, held(budget)) == (False, (0, WHILE_PLENTY + 1))
        assert spool.head(WHILE_PLENTY + 1) == (LARGE * 9)[:WHILE_PLENTY] + b"x"
        spool.close()

    def test_isMadeEarlierWhereAQuarterOfTheMemoryIsHeld(self) -> None:
        budget = SpoolBudget(memory=4_100_000)
        first, second = filled(budget, LARGE * 3), filled(budget, LARGE)
        assert (first.isInMemory, second.isInMemory) == (True, True)
        second.write(LARGE[:40_000])
        assert (first.isInMemory, second.isInMemory) == (True, False)
        assert b"".join(second.pieces(9999)) == LARGE + LARGE[:40_000]
        assert held(budget) == (len(LARGE) * 3, len(LARGE) + 40_000)
        first.close()
        second.close()
        assert held(budget) == (0, 0)

    def test_isMadeByTheFirstOctetOver64KiBWhereMemoryIsShort(self, budget: SpoolBudget) -> None:
        spool = Spool(budget)
        spool.write(LARGE[:IN_MEMORY])
        assert (spool.isInMemory, held(budget)) == (True, (IN_MEMORY, 0))
        spool.write(b"x")
        assert (spool.isInMemory, held(budget)) == (False, (0, IN_MEMORY + 1))
        spool.close()

    def test_hasNoNameAndIsForItsOwnerAlone(self, budget: SpoolBudget, tmp_path: Path) -> None:
        spool = Spool(budget, str(tmp_path))
        before = openFiles()
        spool.write(LARGE)
        (file,) = openFiles() - before
        assert os.readlink(file).startswith(str(tmp_path))
        status = os.stat(file)
        assert (status.st_mode & 0o7777, status.st_nlink) == (0o600, 0)
        assert status.st_size == len(LARGE)  # nothing waits in a buffer
        assert os.listdir(tmp_path) == []
        spool.close()

    def test_isWrittenInPiecesOf64KiBAtMost(
        self, budget: SpoolBudget, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        writes: list[int] = []
        write = os.write

        def noted(descriptor: int, octets: bytes) -> int:
            writes.append(len(octets))
            # A disk may take less than it is given.
            return write(descriptor, octets[:50_000])

        monkeypatch.setattr(os, "write", noted)
        spool = Spool(budget)
        spool.write(b"head")
        spool.write(LARGE)
        assert max(writes) == IN_MEMORY
        assert b"".join(spool.pieces(IN_MEMORY)) == b"head" + LARGE
        spool.close()

    def test_isClosedWithTheSpool(self, budget: SpoolBudget) -> None:
        before = openFiles()
        spool = filled(budget, LARGE)
        assert len(openFiles()) == len(before) + 1
        spool.close()
        assert openFiles() == before

    def test_staysOpenForAReaderThatHasBegun(self, budget: SpoolBudget) -> None:
        before = openFiles()
        spool = filled(budget, LARGE)
        reader = spool.pieces(1000)
        first = next(reader)
        spool.close()
        # Whoever opens files now must not get the reader's descriptor.
        others = [tempfile.TemporaryFile() for _ in range(3)]  # noqa: SIM115
        assert first + b"".join(reader) == LARGE
        for other in others:
            other.close()
        del reader
        assert openFiles() == before

    def test_thatHasLostOctetsIsNotReadAsIfWhole(self, budget: SpoolBudget) -> None:
        before = openFiles()
        spool = filled(budget, LARGE)
        (file,) = openFiles() - before
        os.truncate(file, 100_000)
        with pytest.raises(OSError, match="shorter"):
            list(spool.pieces(IN_MEMORY))
        spool.close()


class TestOutOfRoom:
    def test_noMoreMemoryThanTheBudgetHas(self) -> None:
        budget = SpoolBudget(memory=1000)
        first, second = Spool(budget), Spool(budget)
        first.write(b"a" * 600)
        second.write(b"b" * 400)
        with pytest.raises(OutOfRoom):
            second.write(b"b")
        assert held(budget) == (600, 0)
        third = Spool(budget)
        third.write(b"c" * 400)
        first.close()
        third.close()
        assert held(budget) == (0, 0)

    def test_noMoreDiskThanTheBudgetHas(self) -> None:
        budget = SpoolBudget(LITTLE, disk=100_000)
        spool = Spool(budget)
        spool.write(LARGE[:100_000])
        with pytest.raises(OutOfRoom):
            spool.write(b"x")
        assert held(budget) == (0, 0)

    def test_noDiskAtAllForWhatMemoryHeld(self) -> None:
        budget = SpoolBudget(LITTLE, disk=1000)
        before = openFiles()
        spool = Spool(budget)
        spool.write(LARGE[:IN_MEMORY])
        with pytest.raises(OutOfRoom) as caught:
            spool.write(b"x")
        assert "1000 octets" in str(caught.value)
        assert held(budget) == (0, 0)
        assert openFiles() == before

    def test_aLargeFirstWriteNeedsNoMemory(self) -> None:
        budget = SpoolBudget(memory=0)
        spool = Spool(budget)
        spool.write(LARGE)
        assert held(budget) == (0, len(LARGE))
        spool.close()

    def test_theDiskTakesNoMore(self, budget: SpoolBudget, fileSizeLimit: int) -> None:
        before = openFiles()
        spool = Spool(budget)
        spool.write(LARGE[: fileSizeLimit - 10])
        with pytest.raises(OutOfRoom) as caught:
            spool.write(LARGE[:20])
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno == errno.EFBIG
        assert held(budget) == (0, 0)
        assert openFiles() == before

    def test_theDirectoryIsGone(self, budget: SpoolBudget, tmp_path: Path) -> None:
        spool = Spool(budget, str(tmp_path / "gone"))
        spool.write(LARGE[:IN_MEMORY])
        with pytest.raises(OutOfRoom):
            spool.write(b"x")
        assert held(budget) == (0, 0)

    def test_isSaidAgainAtEachLaterWriteAndNothingIsHeld(self) -> None:
        budget = SpoolBudget(memory=10)
        spool = Spool(budget)
        with pytest.raises(OutOfRoom):
            spool.write(b"a" * 11)
        with pytest.raises(OutOfRoom):
            spool.write(b"a")
        assert held(budget) == (0, 0)
        with pytest.raises(ValueError, match="closed"):
            list(spool.pieces(10))


class TestClose:
    @pytest.mark.parametrize("octets", [b"", LARGE[:5000], LARGE])
    def test_twiceGivesBackOnce(self, budget: SpoolBudget, octets: bytes) -> None:
        other = filled(budget, b"other")
        spool = filled(budget, octets)
        spool.close()
        spool.close()
        assert held(budget) == (5, 0)
        other.close()

    def test_inSeveralThreadsAtOnceGivesBackOnce(self, budget: SpoolBudget) -> None:
        spools = [filled(budget, b"abc") for _ in range(200)]

        def closeAll() -> None:
            for spool in spools:
                spool.close()

        threads = [Thread(target=closeAll) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert held(budget) == (0, 0)

    @pytest.mark.parametrize("octets", [LARGE[:5000], LARGE])
    def test_leavesNothingToReadButSizeAndDigest(self, budget: SpoolBudget, octets: bytes) -> None:
        spool = filled(budget, octets)
        spool.close()
        # An empty message in place of the true one would be worse than an error.
        with pytest.raises(ValueError, match="closed"):
            spool.head(10)
        with pytest.raises(ValueError, match="closed"):
            list(spool.pieces(10))
        assert spool.size == len(octets)
        assert spool.sha256 == hashlib.sha256(octets).hexdigest()

    def test_takesNoMoreWrites(self, budget: SpoolBudget) -> None:
        spool = Spool(budget)
        spool.close()
        with pytest.raises(OutOfRoom):
            spool.write(b"late")
        assert held(budget) == (0, 0)

    @pytest.mark.parametrize("octets", [LARGE[:5000], LARGE])
    def test_isDoneForASpoolThatIsDropped(self, budget: SpoolBudget, octets: bytes) -> None:
        before = openFiles()
        spool = filled(budget, octets)
        assert sum(held(budget)) == len(octets)
        del spool
        assert held(budget) == (0, 0)
        assert openFiles() == before

    def test_isDoneForASpoolThatIsDroppedInACycle(self, budget: SpoolBudget) -> None:
        cycle: list[object] = [filled(budget, LARGE)]
        cycle.append(cycle)
        del cycle
        gc.collect()
        assert held(budget) == (0, 0)


class TestTheAccount:
    def test_whatOtherThreadsGiveBackMayBeTakenAgain(self) -> None:
        allowance = Allowance(100)
        for _ in range(1000):
            allowance.take(100)
            thread = Thread(target=allowance.giveBack, args=(100,))
            thread.start()
            thread.join(10)
        assert allowance.held == 0

    def test_aRefusedRequestHoldsNothing(self) -> None:
        allowance = Allowance(100)
        allowance.take(60)
        with pytest.raises(OutOfRoom, match="60 of 100"):
            allowance.take(41)
        allowance.take(40)
        assert allowance.held == 100

    def test_theDefaultsAre256MiBOfMemoryAnd4GiBOfDisk(self) -> None:
        budget = SpoolBudget()
        assert (budget.memory.limit, budget.disk.limit) == (268_435_456, 4_294_967_296)
