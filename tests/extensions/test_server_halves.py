"""The server halves: what they declare, offer and refuse."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from zope.interface.verify import verifyObject

from mailsrv.extensions.body import BodyServer
from mailsrv.extensions.dsn import DsnServer
from mailsrv.extensions.extension import ServerExtension
from mailsrv.extensions.size import SizeServer
from mailsrv.extensions.smtputf8 import SmtpUtf8Server
from mailsrv.extensions.standard import standardExtensions
from mailsrv.extensions.starttls import StartTlsServer
from mailsrv.interfaces import IServerExtension
from mailsrv.smtp.address import NULL_PATH
from mailsrv.smtp.command import Command
from smtpconversation import Server, codesOf, limited

WRONG = 501


def under(**limits: Any) -> Any:
    """A transaction of a session with these limits."""
    return SimpleNamespace(
        session=SimpleNamespace(limits=limited(**limits)), needsChunks=False, size=0
    )


def codeOf(answer: Any) -> int | None:
    return None if answer is None else answer.code


def test_all_keep_the_contract() -> None:
    for extension in (*standardExtensions(), StartTlsServer(), ServerExtension()):
        verifyObject(IServerExtension, extension)


def test_the_base_declares_nothing_and_refuses_nothing() -> None:
    base = ServerExtension()
    assert base.atEhlo(under().session) == ""
    assert base.atMail(under(), {}) is base.atRcpt(under(), NULL_PATH, {}) is None
    assert codeOf(base.atCommand(under().session, Command("X"))) == 502
    assert not any((base.mailParams, base.rcptParams, base.verbs))


def test_vrfy_and_expn_are_offered_where_they_are_on() -> None:
    keywords = [each.getKeyword() for each in standardExtensions(allowVrfy=False, allowExpn=False)]
    assert "VRFY" not in keywords
    assert "EXPN" not in keywords
    assert {"VRFY", "EXPN"} <= {each.getKeyword() for each in standardExtensions()}


@pytest.mark.parametrize(
    ("value", "code"),
    [
        ("0", None),
        ("1000", None),
        ("0000000000000000001", None),
        ("1001", 552),
        ("9" * 20, 552),
        ("9" * 21, WRONG),
        (None, WRONG),
        ("x", WRONG),
        ("1.5", WRONG),
        ("-1", WRONG),
        ("+1", WRONG),
        ("1_0", WRONG),
        ("١", WRONG),
        ("²", WRONG),
    ],
)
def test_size(value: str | None, code: int | None) -> None:
    """RFC 1870 §3: 1 to 20 digits; over the limit 552 before an octet is sent."""
    assert codeOf(SizeServer().atMail(under(maxSize=1000), {"SIZE": value})) == code
    assert SizeServer().atEhlo(under(maxSize=1000).session) == "1000"


@pytest.mark.parametrize(
    ("value", "code", "needsChunks"),
    [
        ("7BIT", None, False),
        ("8bitmime", None, False),
        ("BinaryMime", None, True),
        ("", WRONG, False),
        (None, WRONG, False),
        ("7BIT8BIT", WRONG, False),
    ],
)
def test_body(value: str | None, code: int | None, needsChunks: bool) -> None:
    """RFC 6152 §2, RFC 3030 §3."""
    transaction = under()
    assert codeOf(BodyServer().atMail(transaction, {"BODY": value})) == code
    assert transaction.needsChunks is needsChunks


def test_smtputf8_takes_no_value() -> None:
    assert SmtpUtf8Server().atMail(under(), {"SMTPUTF8": None}) is None
    assert codeOf(SmtpUtf8Server().atMail(under(), {"SMTPUTF8": "1"})) == WRONG


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("RET", "FULL", None),
        ("RET", "hdrs", None),
        ("RET", "", WRONG),
        ("RET", None, WRONG),
        ("ENVID", "QQ314159", None),
        ("ENVID", "a+2Bb", None),
        ("ENVID", "a+2bb", WRONG),
        ("ENVID", "a=b", WRONG),
        ("ENVID", "x" * 100, None),
        ("ENVID", "x" * 101, WRONG),
        ("ENVID", None, WRONG),
    ],
)
def test_dsn_at_mail(name: str, value: str | None, code: int | None) -> None:
    """RFC 3461 §4.3, §4.4."""
    assert codeOf(DsnServer().atMail(under(), {name: value})) == code


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("NOTIFY", "NEVER", None),
        ("NOTIFY", "success,FAILURE,Delay", None),
        ("NOTIFY", "NEVER,FAILURE", WRONG),
        ("NOTIFY", "FAILURE,FAILURE", WRONG),
        ("NOTIFY", "FAILURE,", WRONG),
        ("NOTIFY", None, WRONG),
        ("ORCPT", "rfc822;bob@example.org", None),
        ("ORCPT", "rfc822;bob+2Btag@example.org", None),
        ("ORCPT", "utf-8;δοκιμή@example.org", None),
        ("ORCPT", "rfc822;bob+tag@example.org", WRONG),
        ("ORCPT", "bob@example.org", WRONG),
        ("ORCPT", ";bob@example.org", WRONG),
        ("ORCPT", "rfc822;", WRONG),
        ("ORCPT", "rfc822;" + "x" * 500, WRONG),
        ("ORCPT", None, WRONG),
    ],
)
def test_dsn_at_rcpt(name: str, value: str | None, code: int | None) -> None:
    """RFC 3461 §4.1, §4.2."""
    assert codeOf(DsnServer().atRcpt(under(), NULL_PATH, {name: value})) == code


def test_starttls_is_refused_in_its_order() -> None:
    """RFC 3207; protocol.md: 501 with an argument, 502 no certificate, 503 before EHLO."""
    for isConfigured, codes in ((False, [501, 502, 250, 502]), (True, [501, 503, 250, 503])):
        server = Server(extensions=[StartTlsServer(isConfigured)])
        client = server.connect()
        client.heard()
        assert client.codes("STARTTLS x", "STARTTLS", "HELO c", "STARTTLS") == codes
        offered = b"STARTTLS" in server.connect().say("EHLO c")
        assert offered is isConfigured


def test_limits_are_told() -> None:
    said = Server(limits=limited(maxRecipients=3, maxSize=4)).connect().say("EHLO c")
    assert b"LIMITS RCPTMAX=3\r\n" in said
    assert b"250-SIZE 4\r\n" in said


def test_bdat_says_503_only_after_its_argument_was_read() -> None:
    client = Server().connect()
    client.heard()
    assert client.codes("BDAT", "BDAT 1 LAST MORE", "BDAT " + "9" * 19) == [501] * 3
    assert codesOf(client.send(b"BDAT 2\r\nxxNOOP\r\n")) == [503, 250]
