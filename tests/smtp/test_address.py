"""Addresses: what is one, what is none, and what counts as the same."""

from __future__ import annotations

from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.smtp.address import (
    NULL_PATH,
    Mailbox,
    domainKey,
    foldCase,
    isAddressLiteral,
    isDomain,
    parseMailbox,
    scanPath,
    unquote,
)

MAILBOXES = [
    "a@b",
    "alice.smith@mail.example.com",
    "ticket+123@example.com",
    "!#$%&'*+-/=?^_`{|}~@example.com",
    '"with space"@example.com',
    '"quoted \\" and \\\\ pair"@example.com',
    '"a@b"@example.com',
    '""@example.com',
    "a@[192.0.2.1]",
    "a@[IPv6:2001:db8::1]",
    "a@under_score.example",
    "a@xn--mnchen-3ya.example",
    "a@a--b.example",
    "jörg@müller.example",
    "用户@例子.广告",
    "l" * 64 + "@example.com",
    "ü" * 32 + "@example.com",
    "a@" + "d" * 255,
]
NO_MAILBOXES = [
    "",
    "a",
    "@b",
    "a@",
    "a@b@c",
    "a b@c",
    ".a@b",
    "a.@b",
    "a..b@c",
    "a@.b",
    "a@b.",
    "a@b..c",
    "a@-b",
    "a@b-",
    "a@b-.c",
    "<a@b>",
    "a@b\n",
    "a\0@b",
    "a(c)@b",
    '"a@b',
    '"a"b"@c',
    '"a\\"@c',
    '"new\nline"@c',
    "a@[192.0.2.256]",
    "a@[192.0.2.1",
    "a@192.0.2.1]",
    "a@[IPv6:]",
    "a@[x]",
    "l" * 65 + "@example.com",
    "ü" * 33 + "@example.com",
    "a@" + "d" * 256,
    "a@\udcff.example",
    "\udcff@example.com",
]


class TestMailbox:
    @pytest.mark.parametrize("text", MAILBOXES)
    def test_isReadAsGiven(self, text: str) -> None:
        mailbox = parseMailbox(text)
        assert mailbox is not None
        assert str(mailbox) == text
        assert not mailbox.isNull
        assert mailbox.isAscii == text.isascii()

    @pytest.mark.parametrize("text", NO_MAILBOXES)
    def test_isNoneWhereTheGrammarDoesNotAllowIt(self, text: str) -> None:
        assert parseMailbox(text) is None

    def test_theNullPathHasNeitherPart(self) -> None:
        assert NULL_PATH.isNull
        assert (str(NULL_PATH), NULL_PATH.key) == ("", "")

    @given(st.text(alphabet='ab.-@"\\[]: é_', max_size=20))
    def test_whatIsReadIsTheWholeTextAndReadsTheSameAgain(self, text: str) -> None:
        mailbox = parseMailbox(text)
        assert mailbox is None or (str(mailbox) == text and parseMailbox(str(mailbox)) == mailbox)
        assert (scanPath(f"<{text}>") == (mailbox, len(text) + 2)) == (mailbox is not None)


class TestSameAddress:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("Bob@Example.COM", "bob@example.com"),
            ('"bob"@example.com', "bob@example.com"),
            ('"b\\ob"@example.com', "bob@example.com"),
            ("a@MÜLLER.example", "a@müller.example"),
            ("a@müller.example", "a@xn--mller-kva.example"),
            ("a@XN--MLLER-KVA.example", "a@müller.example"),
            ("a@[IPv6:2001:DB8::1]", "a@[ipv6:2001:db8::1]"),
        ],
    )
    def test_hasTheSameKey(self, one: str, other: str) -> None:
        first, second = parseMailbox(one), parseMailbox(other)
        assert first is not None
        assert second is not None
        assert first.key == second.key

    @pytest.mark.parametrize(
        ("one", "other"),
        [
            ("JÖRG@example.com", "jörg@example.com"),  # only A-Z are folded
            ("\u212aim@example.com", "kim@example.com"),  # KELVIN SIGN
            ('"a b"@example.com', '"ab"@example.com'),
            ("bob@example.com", "bob@example.org"),
        ],
    )
    def test_isNotMadeOutOfTwo(self, one: str, other: str) -> None:
        first, second = parseMailbox(one), parseMailbox(other)
        assert first is not None
        assert second is not None
        assert first.key != second.key

    def test_postmasterWithoutDomainIsItsLocalPart(self) -> None:
        assert Mailbox("PostMaster", "").key == "postmaster"

    def test_quotesStayWhereTheyAreNeeded(self) -> None:
        assert unquote('"a b"') == '"a b"'
        assert unquote('""') == '""'
        assert unquote('"a.b"') == "a.b"
        assert unquote("plain") == "plain"

    def test_aDomainIdnaHasNoAnswerForIsFolded(self) -> None:
        assert domainKey("É" * 64 + ".Example") == "É" * 64 + ".example"

    def test_foldingLeavesWhatIsNotAscii(self) -> None:
        assert foldCase("ABCäÖÜ\u0130") == "abcäÖÜ\u0130"


class TestDomain:
    @pytest.mark.parametrize(
        "text",
        [
            "localhost",
            "a.b",
            "mail_1.example",
            "1and1.example",
            "[192.0.2.1]",
            "d" * 255,
            "[IPv6:::1]",
            "[ipv6:2001:db8::1]",
            "müller.example",
        ],
    )
    def test_mayFollowHelo(self, text: str) -> None:
        assert isDomain(text)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            ".",
            "a.",
            ".a",
            "a..b",
            "-a",
            "a-",
            "a b",
            "a@b",
            "a/b",
            "192.0.2.1]",
            "[192.0.2.1",
            "[]",
            "[1.2.3]",
            "[1.2.3.4.5]",
            "[::1]",
            "[IPv6:fe80::1%eth0]",
            "[IPv6:::1/64]",
            "[IPv6:1.2.3.4]",
            "d" * 256,
            "ü" * 128,
            "a\r",
            "\ud800",
        ],
    )
    def test_mayNot(self, text: str) -> None:
        assert not isDomain(text)

    def test_anAddressWithoutBracketsIsNoLiteral(self) -> None:
        assert not isAddressLiteral("192.0.2.1")


class TestPath:
    @pytest.mark.parametrize(
        ("text", "mailbox", "end"),
        [
            ("<>", NULL_PATH, 2),
            ("<> SIZE=1", NULL_PATH, 2),
            ("<a@b>", Mailbox("a", "b"), 5),
            ("<a@b> BODY=8BITMIME", Mailbox("a", "b"), 5),
            ('<">"@b>x', Mailbox('">"', "b"), 7),
            ("<@a,@b:u@c>", Mailbox("u", "c"), 11),
            ("<@[IPv6:::1]:u@c>", Mailbox("u", "c"), 17),
            ("<postmaster>", Mailbox("postmaster", ""), 12),
            ("<PostMaster> X", Mailbox("PostMaster", ""), 12),
            ("<postmaster@b>", Mailbox("postmaster", "b"), 14),
        ],
    )
    def test_beginsTheText(self, text: str, mailbox: Mailbox, end: int) -> None:
        assert scanPath(text) == (mailbox, end)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "a@b",
            "<",
            "<a@b",
            "<a@b >",
            "< a@b>",
            "<a>",
            "<@a>",
            "<@a:>",
            "<@a,u@c>",
            "<@a:postmaster>",
            "<@a,b:u@c>",
            "<postmaster",
            "<a@b->",
            "<<a@b>>",
            "<a@[1]>",
        ],
    )
    def test_doesNot(self, text: str) -> None:
        assert scanPath(text) is None

    def test_holds256OctetsWithItsBrackets(self) -> None:
        assert scanPath(f"<a@{'d' * 252}>") is not None
        assert scanPath(f"<a@{'d' * 253}>") is None
        assert scanPath(f"<a@{'ü' * 127}>") is None  # octets, not characters

    def test_isTooLongWithItsSourceRouteToo(self) -> None:
        assert scanPath(f"<@{'r' * 250}:a@b>") is None


HOSTILE = ["a", "a.", "a-", "-", ".", '"', '"a', "\\a", "@a,", "@a:", "[", "<", "a@", " ", "é"]


@pytest.mark.parametrize("part", HOSTILE)
@pytest.mark.parametrize("start", ["<", '<"', "<a@", "<a@a-", "<@", "<@a,", "<@["])
def test_noTextHoweverMadeTakesLong(start: str, part: str) -> None:
    text = start + part * (100_000 // len(part)) + "!"
    began = perf_counter()
    scanPath(text)
    isDomain(text[1:])
    parseMailbox(text[1:])
    # About 20 ms; a pattern that goes back would take minutes.
    assert perf_counter() - began < 2
