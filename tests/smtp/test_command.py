"""Commands: the verb, the argument, the path and its parameters."""

from __future__ import annotations

import contextlib
from sys import getrefcount
from time import perf_counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.smtp import reply as r
from mailsrv.smtp.address import NULL_PATH, Mailbox
from mailsrv.smtp.command import Command, Parameters, formatParameters, parsePath, readLine
from mailsrv.smtp.errors import SmtpSyntaxError
from mailsrv.smtp.reply import Reply

ALICE = Mailbox("alice", "example.com")


class TestParse:
    @pytest.mark.parametrize(
        ("line", "verb", "argument"),
        [
            (b"NOOP", "NOOP", b""),
            (b"noop", "NOOP", b""),
            (b"nOoP  \t ", "NOOP", b""),
            (b"HELO example.com", "HELO", b"example.com"),
            (b"HELO \t example.com \t", "HELO", b"example.com"),
            (b"MAIL FROM:<a@b>  SIZE=1 ", "MAIL", b"FROM:<a@b>  SIZE=1"),
            (b"VRFY J\xc3\xb6rg", "VRFY", b"J\xc3\xb6rg"),
            (b"XYZZY", "XYZZY", b""),
            (b"HELP a\rb\nc", "HELP", b"a\rb\nc"),
        ],
    )
    def test_aVerbInAnyCaseThenItsArgumentWithoutTrailingSpace(
        self, line: bytes, verb: str, argument: bytes
    ) -> None:
        assert Command.parse(line) == Command(verb, argument)

    @pytest.mark.parametrize(
        "line",
        [b"", b" ", b" NOOP", b"\tNOOP", b"NOOP:", b"NO-OP x", b"1", b"N\xc3\x96OP", b"DATA\0"],
    )
    def test_whatDoesNotBeginWithAWordHasNoVerb(self, line: bytes) -> None:
        assert Command.parse(line) == Command("", line)

    @given(st.binary(max_size=40))
    def test_neverRaises(self, line: bytes) -> None:
        command = Command.parse(line)
        assert command.argument in line

    @pytest.mark.parametrize("line", [b"NOOP a" + b" " * 100_000 + b"x", b"A" * 100_000 + b"!"])
    def test_noLineHoweverMadeTakesLong(self, line: bytes) -> None:
        began = perf_counter()
        Command.parse(line)
        assert perf_counter() - began < 1


class TestLine:
    @pytest.mark.parametrize(
        ("line", "command", "fault"),
        [
            (b"NOOP\r", Command("NOOP"), None),
            (b"DATA\r", Command("DATA"), None),
            (b"DATA", Command("DATA"), r.BARE_LF),
            (b"NOOP \r\r", Command("NOOP", b"\r"), r.FORBIDDEN_OCTET),
            (b"DATA\0\r", Command("", b"DATA\0"), r.FORBIDDEN_OCTET),
            (b"RCPT TO:<\xc3\xa9@b>\r", Command("RCPT", b"TO:<\xc3\xa9@b>"), None),
            (b"RCPT TO:<\xc3\xa9\0@b>\r", Command("RCPT", b"TO:<\xc3\xa9\0@b>"), r.FORBIDDEN_OCTET),
            (b"VRFY \xc3\xa9\r", Command("VRFY", b"\xc3\xa9"), r.FORBIDDEN_OCTET),
            (b"MAIL " + b"x" * 600 + b"\r", Command("MAIL", b"x" * 600), None),
        ],
    )
    def test_isReadTheSameHoweverOftenItComes(
        self, line: bytes, command: Command, fault: Reply | None
    ) -> None:
        for _ in range(2):
            assert readLine(line) == (command, fault)

    @pytest.mark.parametrize("line", [b"AUTH PLAIN c2VjcmV0\r", b"c2VjcmV0\r", b"auth login x\r"])
    def test_thatMayBeALoginIsNotKept(self, line: bytes) -> None:
        line = bytes(bytearray(line))  # one that nobody else knows
        before = getrefcount(line)
        readLine(line)
        assert getrefcount(line) == before


class TestOctets:
    def test_areTheLineAClientSends(self) -> None:
        parameters: Parameters = {"SIZE": "10", "SMTPUTF8": None}
        command = Command("MAIL", b"FROM:<a@b>", parameters)
        assert command.octets == b"MAIL FROM:<a@b> SIZE=10 SMTPUTF8\r\n"

    def test_withoutArgumentAreTheVerb(self) -> None:
        assert Command("QUIT").octets == b"QUIT\r\n"

    def test_ofParametersEachHaveASpaceBefore(self) -> None:
        assert formatParameters({}) == ""
        assert formatParameters({"A": None, "B": "c"}) == " A B=c"

    def test_areReadBackAsTheSameCommand(self) -> None:
        sent = Command("MAIL", b"FROM:<alice@example.com>", {"BODY": "8BITMIME", "X": None})
        read = Command.parse(sent.octets.removesuffix(b"\r\n"))
        assert (read.verb, *parsePath(read.argument, b"FROM:")) == ("MAIL", ALICE, sent.parameters)


class TestPath:
    @pytest.mark.parametrize(
        ("argument", "mailbox", "parameters"),
        [
            (b"FROM:<alice@example.com>", ALICE, {}),
            (b"from:<alice@example.com>", ALICE, {}),
            (b"FROM: <alice@example.com>", ALICE, {}),
            (b"FROM:<>", NULL_PATH, {}),
            (b"FROM:<@a,@b:alice@example.com>", ALICE, {}),
            (b'FROM:<">"@b> SIZE=1', Mailbox('">"', "b"), {"SIZE": "1"}),
            (b"FROM:<> size=5 Body=8bitmime", NULL_PATH, {"SIZE": "5", "BODY": "8bitmime"}),
            (b"FROM:<>  SMTPUTF8\tX-1=<>", NULL_PATH, {"SMTPUTF8": None, "X-1": "<>"}),
            ("FROM:<jörg@a>".encode(), Mailbox("jörg", "a"), {}),
            ("FROM:<> A=ü".encode(), NULL_PATH, {"A": "ü"}),
        ],
    )
    def test_isReadWithItsParameters(
        self, argument: bytes, mailbox: Mailbox, parameters: Parameters
    ) -> None:
        assert parsePath(argument, b"FROM:") == (mailbox, parameters)

    @pytest.mark.parametrize(
        ("argument", "refusal"),
        [
            (b"", r.BAD_PATH),
            (b"FROM", r.BAD_PATH),
            (b"FROM:", r.BAD_PATH),
            (b"TO:<a@b>", r.BAD_PATH),
            (b"FROM :<a@b>", r.BAD_PATH),
            (b"FROM:  <a@b>", r.BAD_PATH),
            (b"FROM:a@b", r.BAD_PATH),
            (b"FROM:<a@b>SIZE=1", r.BAD_PATH),
            (b"FROM:<a@b>>", r.BAD_PATH),
            (b"FROM:<\xff@b>", r.BAD_PATH),
            (b"FROM:<\xc3\xb6>", r.BAD_PATH),
            (b"FROM:<> SIZE=", r.BAD_PARAMETER),
            (b"FROM:<> =1", r.BAD_PARAMETER),
            (b"FROM:<> -A", r.BAD_PARAMETER),
            (b"FROM:<> A=b=c", r.BAD_PARAMETER),
            (b"FROM:<> A_B", r.BAD_PARAMETER),
            (b"FROM:<> \xc3\xb6=1", r.BAD_PARAMETER),
            (b"FROM:<> A=\x01", r.BAD_PARAMETER),
            (b"FROM:<> A=1 B a=1", r.REPEATED_PARAMETER),
        ],
    )
    def test_isRefusedWithTheReplyThatSaysWhy(self, argument: bytes, refusal: Reply) -> None:
        with pytest.raises(SmtpSyntaxError) as caught:
            parsePath(argument, b"FROM:")
        assert caught.value.reply is refusal
        assert str(caught.value) == refusal.text

    def test_ofOneCommandDoesNotChangeThatOfAnother(self) -> None:
        _, parameters = parsePath(b"TO:<a@b>", b"TO:")
        assert parameters == {}
        assert parsePath(b"TO:<a@b> NOTIFY=NEVER", b"TO:")[1] == {"NOTIFY": "NEVER"}
        assert parameters == {}

    @given(st.binary(max_size=40))
    def test_raisesNothingElse(self, argument: bytes) -> None:
        for text in (argument, b"FROM:<" + argument, b"FROM:<> " + argument):
            with contextlib.suppress(SmtpSyntaxError):
                mailbox, _ = parsePath(text, b"FROM:")
                assert isinstance(mailbox, Mailbox)
