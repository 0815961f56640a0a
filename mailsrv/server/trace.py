"""Trace information: the Return-Path and Received lines of a message (RFC 5321 §4.4)."""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import lru_cache

from mailsrv.interfaces import ISession
from mailsrv.smtp.message import Recipient

_DATE_FIELD = re.compile(rb"^Date[ \t]*:", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID_FIELD = re.compile(rb"^Message-ID[ \t]*:", re.IGNORECASE | re.MULTILINE)


def protocolName(session: ISession, isUtf8: bool) -> str:
    """How the message came, by the names of RFC 3848 and RFC 6531 §4.3: SMTP, ESMTPSA, LMTP …"""
    if isUtf8:
        name = "UTF8LMTP" if session.isLmtp else "UTF8SMTP"
    else:
        name = "LMTP" if session.isLmtp else "ESMTP" if session.isExtended else "SMTP"
    if not session.isExtended:
        return name
    return name + ("S" if session.isSecure else "") + ("A" if session.identity else "")


def traceLines(
    session: ISession,
    *,
    sender: str,
    recipients: list[Recipient],
    messageId: str,
    receivedAt: datetime,
    protocol: str,
) -> bytes:
    """The lines put in front of a message when it is handed out, CRLF and all.

    `for` is there only where there is one recipient: it must not tell one of the others.
    """
    source = f"{session.helo} ({_literal(session.peer)})" if session.peer else session.helo
    clause = ""
    # One recipient may have several mailboxes.
    if len(recipients) == 1 or len({recipient.address for recipient in recipients}) == 1:
        clause = f"\r\n\tfor <{recipients[0].address}>"
    return (
        f"Return-Path: <{sender}>\r\n"
        f"Received: from {source}\r\n"
        f"\tby {session.hostname} with {protocol} id {messageId}{clause};\r\n"
        f"\t{_date(int(receivedAt.timestamp()))}\r\n"
    ).encode()


def missingFields(head: bytes, messageId: str, hostname: str, receivedAt: datetime) -> bytes:
    """The Date and Message-ID fields that a submission lacks (RFC 6409 §8.1, §8.2)."""
    header = (b"\r\n" + head).partition(b"\r\n\r\n")[0]  # there may be no field at all
    fields = b""
    if _DATE_FIELD.search(header) is None:
        fields += f"Date: {_date(int(receivedAt.timestamp()))}\r\n".encode()
    if _MESSAGE_ID_FIELD.search(header) is None:
        fields += f"Message-ID: <{messageId}@{hostname}>\r\n".encode()
    return fields


@lru_cache(maxsize=16)
def _date(seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, UTC))


@lru_cache(maxsize=256)
def _literal(peer: str) -> str:
    """The client's address as an address literal (§4.1.3)."""
    try:
        isV6 = ipaddress.ip_address(peer).version == 6
    except ValueError:
        return f"[{peer}]"
    # Which interface a link-local address was seen on (%eth0) has no place in a literal.
    return f"[IPv6:{peer.partition('%')[0]}]" if isV6 else f"[{peer}]"
