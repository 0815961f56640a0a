"""Delivery status notifications: what they say (RFC 3461 §6, RFC 3464, RFC 6533)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime

from mailsrv.interfaces import QueuedMessage
from mailsrv.relay.content import headerOf, relayedTrace
from mailsrv.smtp.local import LocalReply
from mailsrv.smtp.notify import readParameters
from mailsrv.smtp.reply import Reply
from mailsrv.smtp.survey import Survey
from mailsrv.smtp.xtext import decodeXtext

MAX_RETURNED = 1 << 20  # octets of a message that are sent back whole (RET=FULL)
MAX_HEADER = 65_536  # octets of header that are sent back
_MAX_LINE = 900  # characters of a line made of what others have said
_MAX_LINES = 10  # of a reply

_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_NEWLINE = re.compile(rb"\r\n|\r|\n")
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")

# The most serious one first: it gives the report its subject.
_ACTIONS = {
    "failed": (
        "Undelivered mail",
        "The message could not be delivered to the following recipients, and will not be tried"
        " again:",
    ),
    "delayed": (
        "Delayed mail",
        "The message has not been delivered yet to the following recipients. You need not do"
        " anything: it is tried again{until}.",
    ),
    "relayed": (
        "Relayed mail",
        "The message was handed on for the following recipients to a server that sends no"
        " reports. You may hear no more of it:",
    ),
    "expanded": (
        "Delivered mail",
        "The message was delivered to the following addresses, and sent on to those behind them:",
    ),
    "delivered": (
        "Delivered mail",
        "The message was delivered to the mailboxes of the following recipients:",
    ),
}


@dataclass(frozen=True, slots=True)
class Reported:
    """A recipient and what became of it.

    `action`: failed, delayed, relayed, expanded or delivered. `address`: the accepted
    forward-path, `parameters`: of its RCPT. `status`: an enhanced status code. `reply`: what was
    said, None where nobody was asked. `remote`: who said it. `retryUntil`: of what is delayed.
    """

    action: str
    address: str
    parameters: str
    status: str
    reply: Reply | None = None
    remote: str = ""
    retryUntil: datetime | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """A report, ready to be sent: its octets, and what of them a person reads."""

    octets: bytes
    subject: str
    text: str
    needsUtf8: bool


def statusOf(reply: Reply) -> str:
    """The enhanced status code of a reply, or one that says no more than its class (§6.3 g)."""
    kind = str(reply.code)[0]
    isSound = _ENHANCED.fullmatch(reply.enhanced) and reply.enhanced.startswith(kind)
    return reply.enhanced if isSound else f"{kind}.0.0"


def composeReport(
    *,
    id: str,
    hostname: str,
    now: datetime,
    message: QueuedMessage,
    recipients: Sequence[Reported],
    content: bytes,
) -> Report:
    """The report `id` on a message, of which `content` is the first MiB.

    The whole message goes back where its sender asked for it, somebody did not get it, and it is
    small, and plain enough for any way; else its header. (§4.3)
    """
    parameters = readParameters(message.parameters)
    isUtf8 = "SMTPUTF8" in parameters
    recipients = sorted(recipients, key=lambda each: list(_ACTIONS).index(each.action))
    subject = _ACTIONS[recipients[0].action][0]
    text = _text(hostname, message, recipients)
    status = _status(hostname, now, message, parameters.get("ENVID"), recipients, isUtf8)
    isWhole = (
        (parameters.get("RET") or "").upper() == "FULL"
        and recipients[0].action == "failed"
        and message.size <= MAX_RETURNED
        and _isPlain(content)
    )
    returned = relayedTrace(message) + content if isWhole else _header(message, content)
    isGlobal = isUtf8 and not (status.isascii() and headerOf(returned).isascii())
    kinds = _GLOBAL if isGlobal else _PLAIN
    boundary = f"=_{id}"
    parts = (
        ("text/plain; charset=utf-8", text.encode()),
        (kinds[0], status.encode()),
        (kinds[1] if isWhole else kinds[2], returned),
    )
    body = b"".join(_part(boundary, kind, octets) for kind, octets in parts)
    head = (
        f"Date: {format_datetime(now.replace(microsecond=0))}\r\n"
        f"From: Mail Delivery System <postmaster@{hostname}>\r\n"
        f"To: <{message.sender}>\r\n"
        f"Subject: {subject}\r\n"
        f"Message-ID: <{id}@{hostname}>\r\n"
        "Auto-Submitted: auto-replied\r\n"
        "MIME-Version: 1.0\r\n"
        'Content-Type: multipart/report; report-type=delivery-status;\r\n boundary="'
        f'{boundary}"\r\n{_encoding(body)}\r\n'
        "This is a report on a message, in MIME format.\r\n"
    )
    octets = head.encode() + body + f"--{boundary}--\r\n".encode()
    needsUtf8 = isGlobal or not message.sender.isascii()
    return Report(octets, subject, text, needsUtf8)


_PLAIN = ("message/delivery-status", "message/rfc822", "text/rfc822-headers")
_GLOBAL = ("message/global-delivery-status", "message/global", "message/global-headers")


def _part(boundary: str, kind: str, octets: bytes) -> bytes:
    head = f"--{boundary}\r\nContent-Type: {kind}\r\n{_encoding(octets)}\r\n"
    return head.encode() + octets + b"\r\n"


def _encoding(octets: bytes) -> str:
    return "" if octets.isascii() else "Content-Transfer-Encoding: 8bit\r\n"


def _isPlain(content: bytes) -> bool:
    survey = Survey()
    survey.feed(content)
    return survey.finish().isPlain


def _header(message: QueuedMessage, content: bytes) -> bytes:
    """The header, as lines that any server takes."""
    lines = _NEWLINE.split((relayedTrace(message) + headerOf(content))[:MAX_HEADER])
    return b"\r\n".join(line.replace(b"\0", b"")[:_MAX_LINE] for line in lines)


# For people


def _text(hostname: str, message: QueuedMessage, recipients: Sequence[Reported]) -> str:
    lines = [
        f"This is the mail server {hostname}.",
        "It tells what became of the message that you sent, or that was sent in your name, and",
        f"that came here on {format_datetime(message.receivedAt.replace(microsecond=0))}"
        f" (id {message.id}).",
    ]
    said = ""
    for each in recipients:
        if each.action != said:
            said = each.action
            until = ""
            if each.retryUntil is not None:
                until = f" until {format_datetime(each.retryUntil.replace(microsecond=0))}"
            lines += ["", _ACTIONS[said][1].format(until=until)]
        lines += ["", f"  <{each.address}>"]
        if each.reply is not None:
            who = f"{each.remote} said: " if each.remote else ""
            lines += [f"    {line}" for line in _lines(each.reply, who)]
    return "".join(f"{line}\r\n" for line in lines)


def _lines(reply: Reply, who: str = "") -> list[str]:
    """A reply as it was said, line by line; our own words without their code."""
    if isinstance(reply, LocalReply):
        return [_printable(reply.text)]
    texts = reply.lines[:_MAX_LINES] or ("",)
    prefix = f"{reply.enhanced} " if reply.enhanced else ""
    lines = [f"{reply.code}-{prefix}{text}" for text in texts[:-1]]
    lines.append(f"{reply.code} {prefix}{texts[-1]}")
    return [_printable(f"{who}{lines[0]}"), *map(_printable, lines[1:])]


def _printable(text: str) -> str:
    """What others have said, on one line, in ASCII: it is read by machines too."""
    return _CONTROLS.sub(" ", text)[:_MAX_LINE].encode("ascii", "replace").decode()


# For machines


def _status(
    hostname: str,
    now: datetime,
    message: QueuedMessage,
    envelopeId: str | None,
    recipients: Sequence[Reported],
    isUtf8: bool,
) -> str:
    """The fields of message/delivery-status: for the message, then for each recipient."""
    fields = [("Reporting-MTA", f"dns; {hostname}")]
    if envelopeId:
        fields.insert(0, ("Original-Envelope-Id", _printable(decodeXtext(envelopeId))))
    fields.append(("Arrival-Date", format_datetime(message.receivedAt.replace(microsecond=0))))
    for each in recipients:
        fields += [("", ""), *_recipientFields(each, now, isUtf8)]
    return "".join(f"{name}: {value}\r\n" if name else "\r\n" for name, value in fields)


def _recipientFields(each: Reported, now: datetime, isUtf8: bool) -> list[tuple[str, str]]:
    fields = []
    original = readParameters(each.parameters).get("ORCPT")
    if original:
        kind, _, address = original.partition(";")
        fields.append(("Original-Recipient", _address(decodeXtext(address), isUtf8, kind)))
    fields.append(("Final-Recipient", _address(each.address, isUtf8)))
    fields.append(("Action", each.action))
    fields.append(("Status", each.status))
    if each.remote:
        fields.append(("Remote-MTA", f"dns; {_printable(each.remote)}"))
    if each.reply is not None:
        kind = "X-smtpstore" if isinstance(each.reply, LocalReply) else "smtp"
        fields.append(("Diagnostic-Code", f"{kind}; " + "\r\n ".join(_lines(each.reply))))
        fields.append(("Last-Attempt-Date", format_datetime(now.replace(microsecond=0))))
    if each.retryUntil is not None:
        until = format_datetime(each.retryUntil.replace(microsecond=0))
        fields.append(("Will-Retry-Until", until))
    return fields


def _address(address: str, isUtf8: bool, kind: str = "rfc822") -> str:
    """An address with its type; one outside ASCII as RFC 6533 §3 has it."""
    address = _CONTROLS.sub(" ", address)
    if address.isascii():
        return f"{kind}; {address}"
    if not isUtf8:
        address = re.sub(r"[^\x21-\x7e]|\\", lambda found: f"\\x{{{ord(found[0]):X}}}", address)
    return f"utf-8; {address}"
