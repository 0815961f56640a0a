"""The two readers of content, against a slow one that is obviously right."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailsrv.smtp.content import CountedReader, DotReader
from mailsrv.smtp.reply import BARE_NEWLINE, CONTENT_LINE_TOO_LONG, TOO_BIG, Reply

END = b"\r\n.\r\n"


@dataclass(frozen=True)
class Reading:
    """What a reader made of all that it was fed."""

    content: bytes
    isDone: bool
    rest: bytes
    size: int
    fault: Reply | None


def readSlowly(data: bytes, maxSize: int, maxLine: int, acceptBareNewlines: bool) -> Reading:
    """The reference for data with an end in it: protocol.md line by line, octet by octet."""
    lines: list[bytes] = []  # by CRLF alone, with it
    line = b""
    rest = data
    while rest:
        line, rest = line + rest[:1], rest[1:]
        if line == b".\r\n":
            break
        if line.endswith(b"\r\n"):
            lines.append(line[1:] if line.startswith(b".") else line)
            line = b""
    else:
        raise AssertionError("no end in the data")
    content = b"".join(lines)

    hasBareNewline = False
    longest = length = 0
    for index, octet in enumerate(content):
        before = content[index - 1 : index] if index else b""
        after = content[index + 1 : index + 2]
        if octet == 10 and before != b"\r":
            hasBareNewline = True
        if octet == 13 and after != b"\n":
            hasBareNewline = True
        length += 1
        longest = max(longest, length)
        if octet == 10:
            length = 0

    fault = None
    if len(content) > maxSize:
        fault = TOO_BIG
    elif hasBareNewline and not acceptBareNewlines:
        fault = BARE_NEWLINE
    elif maxLine and longest > maxLine:
        fault = CONTENT_LINE_TOO_LONG
    return Reading(content, True, rest, len(content), fault)


def read(
    pieces: list[bytes],
    maxSize: int = 10_000_000,
    maxLine: int = 1000,
    acceptBareNewlines: bool = False,
) -> Reading:
    """Feed the pieces one by one, and hold on to what every caller relies on meanwhile."""
    reader = DotReader(maxSize, maxLine, acceptBareNewlines)
    content = b""
    hadFault = False
    for piece in pieces:
        got = reader.feed(piece)
        assert not (hadFault and got), "content was handed out behind a fault"
        hadFault = reader.fault is not None
        content += got
        assert reader.isDone or not reader.rest
    return Reading(content, reader.isDone, reader.rest, reader.size, reader.fault)


def agree(found: Reading, expected: Reading) -> None:
    """The two are the same, but for content with a fault, which is not handed out whole."""
    if expected.fault:
        assert expected.content.startswith(found.content)
        assert found.content != expected.content
        found = Reading(expected.content, found.isDone, found.rest, found.size, found.fault)
    assert found == expected


def cut(data: bytes, positions: list[int]) -> list[bytes]:
    return [data[start:end] for start, end in pairwise([0, *sorted(positions), len(data)])]


def octets(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


ALPHABET = [b"\r", b"\n", b".", b"a", b"\0", b"\xe9", b"\r\n", b"\r\n.", b"\r\n.\r", b"aaaa"]
TEXTS = st.lists(st.sampled_from(ALPHABET), max_size=14).map(b"".join)
REST = st.sampled_from([b"", b"\r", b"\n", b".\r\n", b"QUIT\r\n", b"\r\n.\r\n"])


class TestAgainstTheReference:
    @settings(max_examples=300, deadline=None)
    @given(
        text=TEXTS,
        rest=REST,
        maxSize=st.sampled_from([3, 8, 1000]),
        maxLine=st.sampled_from([0, 3, 5, 1000]),
        accept=st.booleans(),
        seed=st.integers(0, 2**32),
    )
    @example(b"\r\n.\rX", b"", 1000, 1000, True, 0)
    @example(b"..\r\n...", b"", 1000, 3, False, 0)
    @example(b".aa\r\n.aa", b"", 6, 4, False, 0)
    def test_everySegmentationReadsTheSame(
        self, text: bytes, rest: bytes, maxSize: int, maxLine: int, accept: bool, seed: int
    ) -> None:
        data = text + END + rest
        expected = readSlowly(data, maxSize, maxLine, accept)
        random = Random(seed)
        cuts = [cut(data, [position]) for position in range(1, len(data))]
        cuts += [cut(data, random.choices(range(len(data)), k=4)) for _ in range(8)]
        for pieces in ([data], octets(data), *cuts):
            agree(read(pieces, maxSize, maxLine, accept), expected)

    @settings(max_examples=60, deadline=None)
    @given(
        parts=st.lists(
            st.sampled_from(
                [b"\r\n", b"\r\n.", b"\n", b"\r", b"a" * 37, b"b" * 400, b".", b"\xff"]
            ),
            max_size=120,
        ),
        accept=st.booleans(),
        seed=st.integers(0, 2**32),
    )
    def test_textsOfManyLinesInChunksOfAnySize(
        self, parts: list[bytes], accept: bool, seed: int
    ) -> None:
        data = b"".join(parts) + END
        expected = readSlowly(data, 10_000_000, 1000, accept)
        random = Random(seed)
        for count in (0, 1, 5, 50):
            pieces = cut(data, random.choices(range(len(data)), k=count))
            agree(read(pieces, acceptBareNewlines=accept), expected)

    @settings(max_examples=100, deadline=None)
    @given(content=st.binary(max_size=300), accept=st.booleans())
    def test_contentWithoutItsEndIsHandedOutButForFourOctets(
        self, content: bytes, accept: bool
    ) -> None:
        whole = read([content + END], maxLine=0, acceptBareNewlines=True).content
        reader = DotReader(1000, 0, True)
        begun = b"".join(reader.feed(octet) for octet in octets(content))
        if not reader.isDone:
            assert whole.startswith(begun)
            assert len(whole) - len(begun) <= 4 + len(b"\r\n")


class TestTheEnd:
    def test_isCrlfDotCrlf(self) -> None:
        assert read([b"a\r\n.\r\n"]) == Reading(b"a\r\n", True, b"", 3, None)

    def test_isTheVeryFirstLineBeingADot(self) -> None:
        assert read([b".\r\n"]) == Reading(b"", True, b"", 0, None)

    def test_ofNothingMayComeInThreePieces(self) -> None:
        assert read([b".", b"\r", b"\n"]) == Reading(b"", True, b"", 0, None)

    def test_mayComeInFivePieces(self) -> None:
        reading = read([b"a", b"\r", b"\n", b".", b"\r", b"\n"])
        assert reading == Reading(b"a\r\n", True, b"", 3, None)

    def test_leavesWhatIsBehindItUntouched(self) -> None:
        assert read([b"a\r\n.\r\nQUIT\r\n.\r\n.."]).rest == b"QUIT\r\n.\r\n.."

    def test_theFirstOfTwoCounts(self) -> None:
        reading = read([b"a\r\n.\r\nMAIL FROM:<>\r\n.\r\n"])
        assert (reading.content, reading.rest) == (b"a\r\n", b"MAIL FROM:<>\r\n.\r\n")

    def test_whatIsFedBehindItIsNoContent(self) -> None:
        reader = DotReader(100, 100, False)
        assert reader.feed(b"a\r\n.\r\nNO") == b"a\r\n"
        assert reader.feed(b"OP\r\n") == b""
        assert (reader.rest, reader.size) == (b"NOOP\r\n", 3)

    def test_anEmptyLineBeforeItIsContent(self) -> None:
        assert read([b"\r\n.\r\n"]).content == b"\r\n"

    def test_isNotThereYetAfterFourOctetsOfIt(self) -> None:
        reading = read([b"a\r\n.\r"])
        assert (reading.content, reading.isDone) == (b"a", False)

    def test_doesNotFollowWhenOtherOctetsDo(self) -> None:
        reading = read([b"a\r\n.\r", b"X\r\n.\r\n"], acceptBareNewlines=True)
        assert reading.content == b"a\r\n\rX\r\n"

    def test_feedingNothingChangesNothing(self) -> None:
        assert read([b"", b"a\r", b"", b"\n.\r\n", b""]) == Reading(b"a\r\n", True, b"", 3, None)


class TestDots:
    @pytest.mark.parametrize(
        ("sent", "meant"),
        [
            (b"..\r\n", b".\r\n"),
            (b".a\r\n", b"a\r\n"),
            (b"...\r\n", b"..\r\n"),
            (b"a\r\n..\r\n", b"a\r\n.\r\n"),
            (b"a\r\n..b\r\n.c\r\n", b"a\r\n.b\r\nc\r\n"),
            (b"a.\r\nb..\r\n", b"a.\r\nb..\r\n"),
            (b"\r\n..\r\n\r\n", b"\r\n.\r\n\r\n"),
        ],
    )
    def test_aLineThatBeginsWithADotLosesThatOne(self, sent: bytes, meant: bytes) -> None:
        for pieces in ([sent + b".\r\n"], octets(sent + b".\r\n")):
            assert read(pieces) == Reading(meant, True, b"", len(meant), None)

    def test_aDotAfterABareLfStays(self) -> None:
        assert read([b"a\n.b\r\n.\r\n"], acceptBareNewlines=True).content == b"a\n.b\r\n"

    def test_aDotWhereAChunkBeginsIsNotOneWhereALineBegins(self) -> None:
        assert read([b"www", b".example\r\n.\r\n"]).content == b"www.example\r\n"


SMUGGLED = [
    b"a\n.\nMAIL",
    b"a\n.\r\nMAIL",
    b"a\r\n.\nMAIL",
    b"a\r.\rMAIL",
    b"a\r\n.\rMAIL",
    b"a\r.\r\nMAIL",
    b"a\n\n.\n\nMAIL",
    b"a\r\r\n.\r\r\nMAIL",
    b"a\r\r\n.\rMAIL",
    b"a\n\r.\n\rMAIL",
    b"a\r\n\0.\r\nMAIL\n",
    b"a\r\n.\0\r\nMAIL\r",
    b"a\n.\r",
    b".\nMAIL",
    b".\rMAIL",
]


class TestSmuggling:
    @pytest.mark.parametrize("sent", SMUGGLED)
    def test_nothingButCrlfDotCrlfEndsTheData(self, sent: bytes) -> None:
        data = sent + END + b"QUIT\r\n"
        for pieces in ([data], octets(data), *(cut(data, [n]) for n in range(1, len(data)))):
            reading = read(pieces)
            assert (reading.isDone, reading.rest) == (True, b"QUIT\r\n")
            assert reading.fault is BARE_NEWLINE

    @pytest.mark.parametrize("sent", SMUGGLED)
    def test_acceptedBareNewlinesStayAsTheyCame(self, sent: bytes) -> None:
        data = sent + END + b"QUIT\r\n"
        meant = sent.removeprefix(b".").replace(b"\r\n.", b"\r\n") + b"\r\n"
        for pieces in ([data], octets(data), *(cut(data, [n]) for n in range(1, len(data)))):
            reading = read(pieces, acceptBareNewlines=True)
            assert reading == Reading(meant, True, b"QUIT\r\n", len(meant), None)


class TestBareNewlines:
    @pytest.mark.parametrize("sent", [b"\n", b"\r", b"\r\r\n", b"\n\r\n", b"a\rb", b"a\n", b"\n\r"])
    def test_areAFault(self, sent: bytes) -> None:
        for pieces in ([sent + END], octets(sent + END)):
            assert read(pieces).fault is BARE_NEWLINE

    def test_aCrlfCutInTwoIsNone(self) -> None:
        assert read([b"a\r", b"\nb\r", b"\n.\r\n"]).fault is None

    def test_areFoundAfterALineThatWasTooLong(self) -> None:
        reader = DotReader(1000, 10, False)
        reader.feed(b"a" * 20)
        assert reader.fault is CONTENT_LINE_TOO_LONG
        reader.feed(b"\nb")
        assert reader.fault is BARE_NEWLINE

    @settings(max_examples=300, deadline=None)
    @given(
        width=st.integers(0, 90),
        offset=st.integers(0, 90),
        size=st.integers(16_000, 40_000),
        changes=st.lists(
            st.tuples(st.floats(0, 1), st.sampled_from([b"\r", b"\n", b"\r\n", b"\n\r", b"a"])),
            max_size=3,
        ),
        end=st.sampled_from([b"", b"aa", b"\r\n", b"\r", b"\n"]),
    )
    @example(76, 0, 40_000, [], b"")
    @example(0, 0, 20_000, [(0.50005, b"a")], b"")
    def test_areFoundInLargeContentWhoseLinesAreEqual(
        self, width: int, offset: int, size: int, changes: list[tuple[float, bytes]], end: bytes
    ) -> None:
        line = b"a" * width + b"\r\n"
        content = bytearray((line * (size // len(line)))[offset:] + end)
        for where, octets in changes:
            at = int(where * len(content))
            content[at : at + len(octets)] = octets
        isBare = re.search(rb"(?<!\r)\n|\r(?!\n)", content) is not None
        fault = read([bytes(content), END], maxLine=0).fault
        assert fault is (BARE_NEWLINE if isBare else None)

    def test_nulAndEightBitOctetsAreNone(self) -> None:
        content = b"\0\x80\xff\x85\x0b\x0c\r\n"
        assert read([content + b".\r\n"]) == Reading(content, True, b"", len(content), None)


class TestLines:
    @pytest.mark.parametrize("line", [b"a" * 998, b"." + b"a" * 998, b"." * 999])
    def test_aThousandOctetsWithCrlfAndWithoutTheTransparencyDotAreAllowed(
        self, line: bytes
    ) -> None:
        for data in (line + END, b"x\r\n" + line + b"\r\nx" + END):
            for pieces in ([data], octets(data)):
                assert read(pieces).fault is None

    @pytest.mark.parametrize("line", [b"a" * 999, b"." + b"a" * 999, b"." * 1000])
    def test_oneMoreIsTooLong(self, line: bytes) -> None:
        for data in (line + END, b"x\r\n" + line + b"\r\nx" + END):
            for pieces in ([data], octets(data)):
                assert read(pieces).fault is CONTENT_LINE_TOO_LONG

    def test_aLineIsCountedOverAllItsPieces(self) -> None:
        assert read([b"a" * 400, b"a" * 400, b"a" * 198, END]).fault is None
        assert read([b"a" * 400, b"a" * 400, b"a" * 199, END]).fault is CONTENT_LINE_TOO_LONG

    @settings(max_examples=200, deadline=None)
    @given(
        width=st.integers(30, 60),
        first=st.integers(0, 70),
        end=st.integers(0, 70),
        cuts=st.lists(st.integers(0, 80) | st.integers(-80, 0) | st.integers(16_384, 34_000)),
    )
    def test_isTooLongWhereverItStandsAmongManyThatAreEqual(
        self, width: int, first: int, end: int, cuts: list[int]
    ) -> None:
        line = b"a" * width + b"\r\n"
        content = b"b" * first + b"\r\n" + line * (35_000 // len(line)) + b"c" * end + b"\r\n"
        pieces = [*cut(content, [position % len(content) for position in cuts]), END[2:]]
        for maxLine in (width + 1, width + 2, width + 3, 64):
            isTooLong = max(width, first, end) + 2 > maxLine
            fault = read(pieces, maxLine=maxLine).fault
            assert fault is (CONTENT_LINE_TOO_LONG if isTooLong else None)

    def test_noLimitLiftsIt(self) -> None:
        content = b"a" * 500_000 + b"\r\n"
        assert read([content + b".\r\n"], maxLine=0) == Reading(
            content, True, b"", len(content), None
        )

    def test_anAcceptedBareLfStartsTheCountAnew(self) -> None:
        pieces = [b"a" * 998 + b"\n" + b"b" * 998, END]
        assert read(pieces, acceptBareNewlines=True).fault is None

    def test_anAcceptedBareCrDoesNot(self) -> None:
        pieces = [b"a" * 500 + b"\r" + b"b" * 500, END]
        assert read(pieces, acceptBareNewlines=True).fault is CONTENT_LINE_TOO_LONG

    def test_theEndOfTheDataIsFoundBehindALineTooLong(self) -> None:
        reading = read([b"a" * 5000, b"a\r", b"\n.\r\nDATA\r\n"])
        assert (reading.isDone, reading.rest) == (True, b"DATA\r\n")


class TestSize:
    def test_theLimitItselfIsAllowed(self) -> None:
        assert read([b"aaa\r\n.\r\n"], maxSize=5).fault is None

    def test_oneOctetMoreIsTooBig(self) -> None:
        assert read([b"aaaa\r\n.\r\n"], maxSize=5).fault is TOO_BIG

    def test_undoneDotsAndTheEndDoNotCount(self) -> None:
        reading = read([b".a\r\n..\r\n.\r\n"], maxSize=6)
        assert (reading.size, reading.fault) == (6, None)

    def test_goesBeforeEveryOtherFaultWheneverItComes(self) -> None:
        reader = DotReader(30, 10, False)
        seen = []
        for piece in (b"a" * 15, b"\n", b"a" * 20, b"\n", END):
            assert reader.feed(piece) == b""
            seen.append(reader.fault)
        assert seen == [CONTENT_LINE_TOO_LONG, BARE_NEWLINE, TOO_BIG, TOO_BIG, TOO_BIG]
        assert reader.isDone

    def test_isCountedOnBehindAFaultWhileNothingIsKept(self) -> None:
        reader = DotReader(100, 0, False)
        for _ in range(1000):
            assert reader.feed(b"a" * 1000) == b"" or reader.fault is None
        assert (reader.size, reader.isDone) == (1_000_000, False)
        assert sum(len(held) for held in vars(reader).values() if isinstance(held, bytes)) <= 4


class TestCountedReader:
    def test_takesItsOctetsAndLeavesTheRest(self) -> None:
        reader = CountedReader(5)
        assert reader.feed(b"ab") == b"ab"
        assert not reader.isDone
        assert reader.feed(b"\r\n.\r\nNOOP\r\n") == b"\r\n."
        assert (reader.isDone, reader.rest) == (True, b"\r\nNOOP\r\n")

    def test_ofNothingIsDoneBeforeAnythingComes(self) -> None:
        reader = CountedReader(0)
        assert reader.isDone
        assert reader.feed(b"RSET\r\n") == b""
        assert reader.rest == b"RSET\r\n"

    def test_whatIsFedBehindTheEndIsNoContent(self) -> None:
        reader = CountedReader(1)
        reader.feed(b"aNO")
        assert reader.feed(b"OP\r\n") == b""
        assert reader.rest == b"NOOP\r\n"

    @given(data=st.binary(max_size=60), count=st.integers(0, 60), seed=st.integers(0, 2**32))
    def test_everySegmentationReadsTheSame(self, data: bytes, count: int, seed: int) -> None:
        cuts = Random(seed).choices(range(len(data) + 1), k=5)
        for pieces in ([data], octets(data), cut(data, cuts)):
            reader = CountedReader(count)
            assert b"".join(map(reader.feed, pieces)) == data[:count]
            assert reader.rest == data[count:]
            assert reader.isDone == (len(data) >= count)
