"""Delivery status notifications: who gets one, and what it says; read by Python's own parser."""

from __future__ import annotations

import email
import email.policy
from dataclasses import replace
from datetime import timedelta
from email.message import EmailMessage

import pytest

from mailsrv.relay.report import Reported, composeReport, statusOf
from mailsrv.smtp.message import Forward, Message, Recipient
from mailsrv.smtp.reply import Reply, reply
from relay.relaysupport import (
    ACCEPTED,
    BUSY,
    HOST,
    NOON,
    OCTETS,
    REFUSED,
    Relay,
    makeItem,
)


def parsed(octets: bytes) -> EmailMessage:
    message = email.message_from_bytes(octets, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    assert not any(part.defects for part in message.walk())
    assert all(line.endswith(b"\r") for line in octets.split(b"\n")[:-1])
    return message


def report(
    *recipients: Reported, content: bytes = OCTETS, **fields: object
) -> tuple[EmailMessage, bytes]:
    """The parsed report on a message, and its octets."""
    message = makeItem(message={"size": len(content), **fields}).message
    made = composeReport(
        id="01JREPORT", hostname=HOST, now=NOON, message=message,
        recipients=recipients or (failed(),), content=content,
    )  # fmt: skip
    return parsed(made.octets), made.octets


def failed(address: str = "bob@x.example", said: Reply = REFUSED, parameters: str = "") -> Reported:
    return Reported("failed", address, parameters, "5.1.1", said, "mx.x.example")


def textOf(message: EmailMessage) -> str:
    """What a person reads."""
    body = message.get_body()
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def fieldsOf(message: EmailMessage) -> list[dict[str, str]]:
    """The groups of fields of the second part."""
    part = list(message.iter_parts())[1]
    return [{name: str(value) for name, value in group.items()} for group in part.get_payload()]


def relayed(
    item_parameters: str = "", said: Reply = REFUSED, keywords: str = "", **fields
) -> Relay:
    """A relay that has tried one message."""
    relay = Relay(makeItem(parameters=item_parameters, **fields))
    relay.net.reply = said
    relay.net.keywords = frozenset(keywords.split())
    relay.run()
    return relay


def told(relay: Relay) -> list[str]:
    """The actions of the reports stored."""
    parts = [parsed(each.content.head(1 << 20)) for each in relay.queue.reports]
    return [group["Action"] for message in parts for group in fieldsOf(message)[1:]]


# Who is told


@pytest.mark.parametrize(
    ("parameters", "said", "keywords", "expected"),
    [
        ("", REFUSED, "", ["failed"]),
        ("", ACCEPTED, "", []),
        ("NOTIFY=NEVER", REFUSED, "", []),
        ("NOTIFY=SUCCESS", REFUSED, "", []),
        ("NOTIFY=FAILURE", REFUSED, "DSN", ["failed"]),
        ("NOTIFY=success,failure", REFUSED, "", ["failed"]),
        ("NOTIFY=SUCCESS", ACCEPTED, "", ["relayed"]),
        ("NOTIFY=SUCCESS", ACCEPTED, "DSN", []),
        ("NOTIFY=FAILURE,DELAY", ACCEPTED, "", []),
        ("NOTIFY=NEVER", ACCEPTED, "", []),
    ],
)
def test_the_sender_is_told_what_notify_asks_for(
    parameters: str, said: Reply, keywords: str, expected: list[str]
) -> None:
    assert told(relayed(parameters, said, keywords)) == expected


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ("", ["delayed"]),
        ("NOTIFY=DELAY", ["delayed"]),
        ("NOTIFY=FAILURE,SUCCESS", []),
        ("NOTIFY=NEVER", []),
    ],
)
def test_a_delay_is_told_to_who_has_not_said_no(parameters: str, expected: list[str]) -> None:
    relay = relayed(parameters, BUSY, createdAt=NOON - timedelta(hours=5))
    assert told(relay) == expected
    relay.wait(hours=1)
    assert told(relay) == expected
    assert relay.queue.rows[1].item.isDelayReported == bool(expected)


@pytest.mark.parametrize("sender", ["", "nobody@example.org", "no address"])
def test_no_report_goes_to_nobody(sender: str) -> None:
    relay = relayed(message={"sender": sender})
    assert relay.queue.states() == {1: "failed"}
    assert relay.queue.reports == []


@pytest.mark.parametrize("isSlow", [False, True])
def test_a_sender_here_has_it_in_the_mailbox_and_one_elsewhere_in_the_queue(isSlow: bool) -> None:
    relay = Relay(makeItem(1), makeItem(2, message={"sender": "carol@far.example"}))
    relay.directory.isSlow = isSlow
    relay.net.reply = REFUSED
    relay.run()
    here, there = relay.queue.reports
    assert here.recipients == (Recipient("alice@example.org", 1),)
    assert here.forwards == ()
    assert there.recipients == (Recipient("carol@far.example", None),)
    assert there.forwards == (Forward("carol@far.example", "carol@far.example"),)


def test_one_report_tells_of_all_recipients_that_matter() -> None:
    same = {"id": "01J"}
    items = [
        makeItem(1, message=same),
        makeItem(2, message=same, parameters="NOTIFY=SUCCESS"),
        makeItem(3, message=same),
        makeItem(4, message=same, parameters="NOTIFY=NEVER"),
    ]
    relay = Relay(*items)
    relay.net.isQuick = False
    relay.run()
    relay.net.transports[0].answer(REFUSED, ACCEPTED, ACCEPTED, REFUSED)
    assert told(relay) == ["failed", "relayed"]


# The message it is


def test_a_report_is_a_message_from_nobody_with_all_its_columns() -> None:
    [made] = relayed().queue.reports
    assert isinstance(made, Message)
    assert (made.sender, made.parameters, made.helo, made.peer) == ("", "", HOST, "")
    assert made.receivedAt == NOON
    assert (
        made.trace
        == (
            f"Return-Path: <>\r\nReceived: from {HOST} by {HOST} id {made.id};\r\n"
            "\tFri, 01 May 2026 12:00:00 +0000\r\n"
        ).encode()
    )
    message = parsed(made.content.head(9999))
    assert made.summary.subject == message["Subject"] == "Undelivered mail"
    assert made.summary.messageId == message["Message-ID"] == f"<{made.id}@{HOST}>"
    assert made.summary.date == NOON
    assert made.summary.body is not None
    assert textOf(message) == made.summary.body.replace("\r\n", "\n")
    assert message["From"] == f"Mail Delivery System <postmaster@{HOST}>"
    assert message["To"] == "alice@example.org"
    assert message["Auto-Submitted"] == "auto-replied"


def test_it_is_a_multipart_report_of_three_parts() -> None:
    message, _ = report()
    assert message.get_content_type() == "multipart/report"
    assert message.get_param("report-type") == "delivery-status"
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]


def test_a_person_reads_who_what_and_why() -> None:
    text = textOf(report(failed())[0])
    assert "could not be delivered" in text
    assert "  <bob@x.example>\n    mx.x.example said: 550 5.1.1 no such user\n" in text
    assert f"(id {makeItem().message.id})" in text


def test_a_program_reads_the_fields_of_rfc_3464() -> None:
    later = NOON + timedelta(days=5)
    message, _ = report(
        failed(parameters="NOTIFY=FAILURE ORCPT=rfc822;Bob+2Bx@Y.example"),
        Reported("delayed", "ann@x.example", "", "4.2.1", BUSY, "mx2.x.example", later),
        parameters="RET=HDRS ENVID=QQ+2B314",
        receivedAt=NOON - timedelta(hours=1),
    )
    date = "Fri, 01 May 2026 12:00:00 +0000"
    assert fieldsOf(message) == [
        {
            "Original-Envelope-Id": "QQ+314",
            "Reporting-MTA": f"dns; {HOST}",
            "Arrival-Date": "Fri, 01 May 2026 11:00:00 +0000",
        },
        {
            "Original-Recipient": "rfc822; Bob+x@Y.example",
            "Final-Recipient": "rfc822; bob@x.example",
            "Action": "failed",
            "Status": "5.1.1",
            "Remote-MTA": "dns; mx.x.example",
            "Diagnostic-Code": "smtp; 550 5.1.1 no such user",
            "Last-Attempt-Date": date,
        },
        {
            "Final-Recipient": "rfc822; ann@x.example",
            "Action": "delayed",
            "Status": "4.2.1",
            "Remote-MTA": "dns; mx2.x.example",
            "Diagnostic-Code": "smtp; 450 4.2.1 mailbox busy",
            "Last-Attempt-Date": date,
            "Will-Retry-Until": "Wed, 06 May 2026 12:00:00 +0000",
        },
    ]


def test_what_nobody_said_is_not_put_into_the_next_hops_mouth() -> None:
    relay = Relay(makeItem(createdAt=NOON - timedelta(days=5)))
    relay.net.isQuick = False
    relay.run()
    relay.net.transports[0].cut()
    group = fieldsOf(parsed(relay.queue.reports[-1].content.head(9999)))[1]
    assert "Remote-MTA" not in group
    assert group["Diagnostic-Code"].startswith("X-smtpstore; ")
    assert group["Status"] == "4.4.7"


def test_a_reply_of_several_lines_is_told_line_by_line() -> None:
    said = reply(550, "5.7.1", "first", "second é", "third")
    message, octets = report(failed(said=said))
    assert (
        b"Diagnostic-Code: smtp; 550-5.7.1 first\r\n 550-5.7.1 second ?\r\n 550 5.7.1 third\r\n"
        in octets
    )
    assert "    550-5.7.1 second ?\n    550 5.7.1 third\n" in textOf(message)


def test_of_a_reply_without_end_the_beginning_is_told() -> None:
    said = reply(550, "5.7.1", *[f"{number} " + "x" * 2000 for number in range(200)])
    everybody = [failed(f"u{number}@x.example", said) for number in range(100)]
    _, octets = report(*everybody)
    assert b"550-5.7.1 0 xxx" in octets
    assert b"550 5.7.1 9 xxx" in octets
    assert len(octets) < 2_500_000  # 36 MB with all that was said


def test_nothing_others_have_said_can_add_a_field_or_a_line_without_end() -> None:
    said = reply(550, "", "no\r\nX-Evil: 1\r\n\r\n--=_01JREPORT--", "long " * 5000)
    parameters = "ORCPT=rfc822;a+0D+0AX-Evil:+201@y.example"
    evil = replace(failed(said=said, parameters=parameters), remote="mx\r\nX-Evil: 1")
    message, octets = report(evil, parameters="ENVID=e+0D+0A+0D+0AX-Evil:+201")
    groups = fieldsOf(message)
    assert len(groups) == 2
    assert not any("X-Evil" in group for group in groups)
    assert b"\r\nX-Evil" not in octets
    assert max(map(len, octets.split(b"\r\n"))) < 998


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (REFUSED, "5.1.1"),
        (reply(550, "", "no"), "5.0.0"),
        (reply(450, "5.1.1", "odd"), "4.0.0"),
        (reply(250, "2.1.5x", "odd"), "2.0.0"),
    ],
)
def test_a_status_is_the_replys_own_where_that_makes_sense(said: Reply, status: str) -> None:
    assert statusOf(said) == status


# What comes back of the message


def returned(message: EmailMessage) -> bytes:
    part = list(message.iter_parts())[2]
    if part.get_content_type() == "message/rfc822":
        return part.get_payload(0).as_bytes(policy=email.policy.SMTP)
    return part.get_payload(decode=True)


def test_headers_come_back_unless_the_whole_is_asked_for() -> None:
    headers = b"Received: from a\r\n\tby b; date\r\nSubject: hello\r\nX-Note: first\r\n"
    for parameters in ("", "RET=HDRS", "RET=FULL"):
        message, _ = report(parameters=parameters)
        whole = headers + b"\r\nHi.\r\n"
        assert returned(message).rstrip() == (whole if "FULL" in parameters else headers).rstrip()


@pytest.mark.parametrize("action", ["delayed", "relayed", "delivered", "expanded"])
def test_the_whole_comes_back_only_with_a_failure(action: str) -> None:
    message, _ = report(Reported(action, "bob@x.example", "", "2.0.0"), parameters="RET=FULL")
    assert b"Hi." not in returned(message)
    assert fieldsOf(message)[1]["Action"] == action
    assert textOf(message).count("<bob@x.example>") == 1


@pytest.mark.parametrize(
    "octets",
    [
        OCTETS + b"x" * (1 << 20),
        OCTETS + b"bare\nnewline\r\n",
        OCTETS + b"x" * 999 + b"\r\n",
        OCTETS + b"\0\r\n",
        OCTETS + b"no end of line",
    ],
    ids=["large", "bare", "long", "NUL", "endless"],
)
def test_the_whole_does_not_come_back_where_not_every_server_would_take_it(octets: bytes) -> None:
    message, made = report(content=octets, parameters="RET=FULL")
    assert b"Hi." not in returned(message)
    assert len(made) < 9999


def test_a_header_that_no_server_would_take_comes_back_tamed() -> None:
    octets = b"Subject: x\nX: \0" + b"y" * 5000 + b"\rZ: 1\n" + b"A: b\n" * 50_000
    _, made = report(content=octets)
    assert len(made) < 100_000
    assert max(map(len, made.split(b"\r\n"))) < 998
    assert b"\0" not in made


def test_a_message_without_a_body_is_all_header() -> None:
    message, _ = report(content=b"Subject: alone\r\n")
    assert b"Subject: alone" in returned(message)


def test_8_bit_content_makes_an_8_bit_report() -> None:
    octets = "Subject: x\r\n\r\nGrüße\r\n".encode()
    relay = Relay(makeItem(message={"parameters": "RET=FULL", "size": len(octets)}), octets=octets)
    relay.net.reply = REFUSED
    relay.run()
    [made] = relay.queue.reports
    assert made.parameters == "BODY=8BITMIME"
    message = parsed(made.content.head(9999))
    assert message["Content-Transfer-Encoding"] == "8bit"
    assert "Grüße".encode() in made.content.head(9999)


# Addresses outside ASCII (RFC 6533)


def test_a_message_outside_ascii_has_a_report_outside_ascii() -> None:
    octets = "Subject: Grüße\r\n\r\n.\r\n".encode()
    relay = Relay(
        makeItem(
            address="zoë@x.example",
            message={
                "parameters": "SMTPUTF8 RET=FULL",
                "size": len(octets),
                "sender": "ä@far.example",
            },
        ),
        octets=octets,
    )
    relay.net.reply = REFUSED
    relay.run()
    [made] = relay.queue.reports
    assert made.parameters == "BODY=8BITMIME SMTPUTF8"
    octets = made.content.head(9999)
    assert "Final-Recipient: utf-8; zoë@x.example\r\n".encode() in octets
    assert "To: <ä@far.example>\r\n".encode() in octets
    for kind in (b"message/global-delivery-status", b"message/global\r\n"):
        assert b"Content-Type: " + kind in octets


def test_a_message_in_ascii_has_a_report_in_ascii_whatever_it_was_forwarded_to() -> None:
    message, octets = report(failed("zoë\\x@x.example"))
    assert fieldsOf(message)[1]["Final-Recipient"] == r"utf-8; zo\x{EB}\x{5C}x@x.example"
    status = octets.split(b"message/delivery-status")[1].split(b"--=_")[0]
    assert status.isascii()


def test_smtputf8_alone_asks_for_nothing_special() -> None:
    message, octets = report(parameters="SMTPUTF8")
    assert octets.isascii()
    assert list(message.iter_parts())[1].get_content_type() == "message/delivery-status"
