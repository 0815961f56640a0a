"""Trace information: the form of RFC 5321 §4.4, the names of RFC 3848 and RFC 6531."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from mailsrv.server.site import Listener
from mailsrv.server.trace import missingFields, protocolName, traceLines
from mailsrv.smtp.message import Recipient
from smtpconversation import Server

MOMENT = datetime(2026, 2, 3, 4, 5, 6, 789, UTC)

DOMAIN = r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?"
LITERAL = r"\[(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|IPv6:[0-9a-f:.]+)\]"
RECEIVED = re.compile(
    rf"Return-Path: <[^\r\n]*>\r\n"
    rf"Received: from (?:{DOMAIN}|{LITERAL})(?: \({LITERAL}\))?\r\n"
    rf"\tby {DOMAIN} with [A-Z0-9]+ id [0-9A-Z]+(?:\r\n\tfor <[^\r\n]+>)?;\r\n"
    r"\t(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), [0-9]{2} [A-Z][a-z]{2} [0-9]{4}"
    r" [0-9]{2}:[0-9]{2}:[0-9]{2} \+0000\r\n"
)


@dataclass
class Known:
    """What trace information is made of, of a session."""

    helo: str = "client.example.net"
    peer: str = "192.0.2.7"
    hostname: str = "mx.example.org"
    isExtended: bool = True
    isSecure: bool = False
    isLmtp: bool = False
    identity: str | None = None


def lines(session: Known, *addresses: str, sender: str = "s@example.net") -> str:
    return traceLines(
        session,  # type: ignore[arg-type]
        sender=sender,
        recipients=[Recipient(address, index) for index, address in enumerate(addresses)],
        messageId="01ARZ3NDEKTSV4RRFFQ69G5FAV",
        receivedAt=MOMENT,
        protocol="ESMTP",
    ).decode()


def test_it_is_what_the_rfc_says_to_the_letter() -> None:
    assert lines(Known(), "a@example.org") == (
        "Return-Path: <s@example.net>\r\n"
        "Received: from client.example.net ([192.0.2.7])\r\n"
        "\tby mx.example.org with ESMTP id 01ARZ3NDEKTSV4RRFFQ69G5FAV\r\n"
        "\tfor <a@example.org>;\r\n"
        "\tTue, 03 Feb 2026 04:05:06 +0000\r\n"
    )


@pytest.mark.parametrize(
    ("peer", "literal"),
    [
        ("192.0.2.7", "([192.0.2.7])"),
        ("2001:db8::1", "([IPv6:2001:db8::1])"),
        ("::ffff:192.0.2.7", "([IPv6:::ffff:192.0.2.7])"),
        ("fe80::1%eth0", "([IPv6:fe80::1])"),
    ],
)
def test_the_client_stands_there_as_an_address_literal(peer: str, literal: str) -> None:
    trace = lines(Known(peer=peer), "a@b.c")
    assert RECEIVED.fullmatch(trace)
    assert f"from client.example.net {literal}\r\n" in trace


def test_a_client_without_an_address_has_its_name_alone() -> None:
    trace = lines(Known(peer=""), "a@b.c")
    assert RECEIVED.fullmatch(trace)
    assert "Received: from client.example.net\r\n" in trace
    assert "([weird])" in lines(Known(peer="weird"), "a@b.c")


def test_for_is_there_for_one_recipient_alone() -> None:
    assert "for <" not in lines(Known(), "a@b.c", "d@e.f"), "one must not learn of the other"
    assert "for <" not in lines(Known())
    assert "\tfor <team@b.c>;" in lines(Known(), "team@b.c", "team@b.c"), "one, of two mailboxes"


def test_the_null_sender_is_written_as_such() -> None:
    assert lines(Known(), "a@b.c", sender="").startswith("Return-Path: <>\r\n")


@pytest.mark.parametrize(
    ("session", "isUtf8", "name"),
    [
        (Known(isExtended=False), False, "SMTP"),
        (Known(), False, "ESMTP"),
        (Known(isSecure=True), False, "ESMTPS"),
        (Known(identity="a@b"), False, "ESMTPA"),
        (Known(isSecure=True, identity="a@b"), False, "ESMTPSA"),
        (Known(isLmtp=True), False, "LMTP"),
        (Known(isLmtp=True, isSecure=True, identity="a@b"), False, "LMTPSA"),
        (Known(), True, "UTF8SMTP"),
        (Known(isSecure=True, identity="a@b"), True, "UTF8SMTPSA"),
        (Known(isLmtp=True, isSecure=True), True, "UTF8LMTPS"),
        (Known(isExtended=False, isSecure=True), False, "SMTP"),
    ],
)
def test_the_protocol_has_the_name_of_the_registry(session: Known, isUtf8: bool, name: str) -> None:
    assert protocolName(session, isUtf8) == name  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "evil",
    [
        'MAIL FROM:<"x\\\r\nX: y"@b.c>',
        "MAIL FROM:<x@b.c\r>",
        "MAIL FROM:<x\u2028@b.c> SMTPUTF8",
        "MAIL FROM:<x\u0085y@b.c> SMTPUTF8",
    ],
)
def test_no_envelope_puts_a_line_of_its_own_into_the_trace(evil: str) -> None:
    server = Server()
    client = server.greeted()
    client.say(evil, "MAIL FROM:<fallback@b.c>", "RCPT TO:<alice@example.org>", "DATA", ".")
    trace = server.store.messages[0].trace
    assert trace.count(b"\n") == trace.count(b"\r") == trace.count(b"\r\n") == 5
    assert b"X: y" not in trace


def test_it_goes_with_the_message() -> None:
    server = Server()
    client = server.connect("2001:db8::7", listener=Listener(isLmtp=True))
    client.say("LHLO c", "MAIL FROM:<é@b.c> SMTPUTF8", "RCPT TO:<alice@example.org>", "DATA", ".")
    (message,) = server.store.messages
    assert RECEIVED.fullmatch(message.trace.decode())
    assert f"with UTF8LMTP id {message.id}\r\n\tfor <alice@example.org>" in message.trace.decode()
    assert (message.protocol, message.helo, message.peer) == ("UTF8LMTP", "c", "2001:db8::7")
    assert message.receivedAt.tzinfo is UTC


DATE = b"Date: Tue, 03 Feb 2026 04:05:06 +0000\r\n"
MESSAGE_ID = b"Message-ID: <1@h.org>\r\n"


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (b"Subject: x\r\n\r\n", DATE + MESSAGE_ID),
        (b"", DATE + MESSAGE_ID),
        (b"Date: y\r\nSubject: x\r\n\r\n", MESSAGE_ID),
        (b"Subject: x\r\nMESSAGE-id : <2@y>\r\n\r\n", DATE),
        (b"date: y\r\nmessage-id: z\r\n\r\n", b""),
        (b"date: y\r\nmessage-id: z", b""),
        (b"Subject: x\r\n\r\nDate: in the body\r\nMessage-ID: too\r\n", DATE + MESSAGE_ID),
        (b"\r\nDate: in the body\r\n\r\nMessage-ID: too\r\n", DATE + MESSAGE_ID),
        (b"Subject: x\r\n Date: folded\r\nX-Date: y\r\n\r\n", DATE + MESSAGE_ID),
    ],
)
def test_a_submission_gets_the_date_and_message_id_it_lacks(head: bytes, expected: bytes) -> None:
    assert missingFields(head, "1", "h.org", MOMENT) == expected


def test_only_a_submission_does() -> None:
    for isSubmission in (True, False):
        server = Server()
        client = server.connect(listener=Listener(isSubmission=isSubmission))
        client.say("EHLO c", "MAIL FROM:<>", "RCPT TO:<alice@example.org>", "DATA", "x", ".")
        (message,) = server.store.messages
        assert (f"Message-ID: <{message.id}@mx.example.org>".encode() in message.trace) == (
            isSubmission
        )
        assert server.store.contents == [b"x\r\n"], "the octets themselves stay as they came"
