"""Replies as they go over the wire."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.smtp import reply as r
from mailsrv.smtp.message import BytesContent, Content
from mailsrv.smtp.reply import Reply, repeated, reply

STANDARD = [value for value in vars(r).values() if isinstance(value, Reply)]
OF_HOST = [
    r.greeting,
    r.closing,
    r.unavailable,
    r.shuttingDown,
    r.timedOut,
    r.tooManyErrors,
    r.tooManyConnections,
]


class TestOctets:
    def test_ofOneLine(self) -> None:
        assert reply(250, "2.0.0", "OK").octets == b"250 2.0.0 OK\r\n"

    def test_ofSeveralLinesRepeatCodeAndEnhancedCode(self) -> None:
        assert reply(214, "2.0.0", "a", "b", "c").octets == (
            b"214-2.0.0 a\r\n214-2.0.0 b\r\n214 2.0.0 c\r\n"
        )

    def test_withoutEnhancedCode(self) -> None:
        assert reply(250, "", "host", "PIPELINING").octets == b"250-host\r\n250 PIPELINING\r\n"

    def test_withoutText(self) -> None:
        assert reply(250, "").octets == b"250\r\n"
        assert reply(250, "2.0.0").octets == b"250 2.0.0\r\n"

    def test_ofTextOutsideAsciiAreUtf8(self) -> None:
        assert reply(250, "", "Jörg").octets == "250 Jörg\r\n".encode()

    @given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
    def test_noTextStartsALineOfItsOwn(self, lines: list[str]) -> None:
        octets = reply(250, "2.1.5", *lines).octets
        assert len(re.findall(rb"[\r\n]", octets)) == 2 * len(lines)
        assert re.fullmatch(
            rb"(250-2\.1\.5 [^\0-\x1f\x7f]*\r\n)*250 2\.1\.5[^\0-\x1f\x7f]*\r\n", octets
        )

    def test_repeatedStandThereOnceForEachRecipient(self) -> None:
        assert repeated(r.OK, 3).octets == b"250 2.0.0 OK\r\n" * 3
        assert repeated(r.OK, 1).octets == r.OK.octets == b"250 2.0.0 OK\r\n"


class TestMeaning:
    @pytest.mark.parametrize(
        ("code", "isPositive"), [(220, True), (250, True), (354, True), (421, False), (550, False)]
    )
    def test_2yzAnd3yzArePositive(self, code: int, isPositive: bool) -> None:
        assert reply(code, "").isPositive is isPositive

    def test_textIsOneStringForLogs(self) -> None:
        assert reply(250, "2.0.0", "a", "b").text == "a / b"

    def test_sameCodeAndTextAreTheSameReply(self) -> None:
        assert reply(250, "2.0.0", "OK") == r.OK


class TestStandardReplies:
    @pytest.mark.parametrize("standard", STANDARD, ids=lambda standard: standard.lines[0])
    def test_carryAnEnhancedCodeOfTheirOwnClass(self, standard: Reply) -> None:
        if standard.code == 354:
            assert standard.enhanced == ""  # RFC 2034 asks for it in 2yz, 4yz and 5yz
        else:
            assert re.fullmatch(r"[245]\.\d{1,3}\.\d{1,3}", standard.enhanced)
            assert standard.enhanced[0] == str(standard.code)[0]

    @pytest.mark.parametrize("ofHost", OF_HOST, ids=lambda ofHost: ofHost.__name__)
    def test_thatMachinesReadNameTheServerFirst(self, ofHost) -> None:
        made = ofHost("mail.example.com")
        assert made.code in (220, 221, 421)
        assert made.lines[0].startswith("mail.example.com ")
        assert (made.code == 220) == (made.enhanced == "")

    def test_fitTheLineOf512Octets(self) -> None:
        longest = max(len(made.octets) for made in [*STANDARD, *(of("h" * 255) for of in OF_HOST)])
        assert longest <= 512


class TestBytesContent:
    def test_isAContent(self) -> None:
        content: Content = BytesContent(b"abcdefg")
        assert content.size == 7
        assert content.sha256 == "7d1a54127b222502f5b79b5fb0803061152a44f92b37e23c6527baf665d4da9a"
        assert (content.head(3), content.head(100)) == (b"abc", b"abcdefg")
        assert list(content.pieces(3)) == [b"abc", b"def", b"g"]
        assert list(content.pieces(3, 2)) == [b"cde", b"fg"]
        content.close()
        content.close()
