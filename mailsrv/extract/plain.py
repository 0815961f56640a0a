"""The quick way for most small mail: fields, and behind them plain text in ASCII or UTF-8."""

from __future__ import annotations

import re
from functools import lru_cache

from mailsrv.extract.header import NAMES, charsetOf, kindOf, readDate
from mailsrv.extract.text import (
    MAX_MESSAGE_ID,
    MAX_SUBJECT,
    PLAIN_CHARSETS,
    decode,
    storable,
)
from mailsrv.smtp.message import Summary, lineFeeds

PLAIN_SIZE = 65_536  # octets of a message that may be read inline
PLAIN_HEADER = 8192  # octets of its header

_ENCODINGS = frozenset(("", "7bit", "8bit", "binary"))
_BLANKS = " \t\v\f"  # what bytes.strip() takes off a line
# Lines are found by the line end before them. No group is repeated possessively: Python up to
# 3.11.4 then takes too much.
_STRAY = re.compile(r"\n(?!(?!--)[!-9;-~]++[ \t]*+:|[ \t])")
_WANTED = re.compile(
    rf"\n((?=[cdms])(?:{'|'.join(sorted(NAMES))}))[ \t]*+:(.*+(?:\n[ \t].*+)*)",
    re.ASCII | re.IGNORECASE,
)


def extractPlain(head: bytes) -> Summary | None:
    """The Summary of a small message of plain text; None where it takes the longer `extract`.

    Quick enough for the reactor's thread: 4 KiB take 6 µs with five fields, 14 with the 25 of mail
    that has travelled. Where it answers, it answers as `extract` does.
    """
    end = head.find(b"\r\n\r\n", 0, PLAIN_HEADER)
    if len(head) > PLAIN_SIZE or end < 0:
        return None
    header = "\n" + lineFeeds(head[:end].decode("latin-1"))  # an octet a character
    if _STRAY.search(header) or header[1] in " \t":
        return None
    fields: dict[str, str] = {}
    for name, value in _WANTED.findall(header):
        fields.setdefault(name.lower(), value.replace("\n", "").strip(_BLANKS))
    get = fields.get
    subject, date, messageId = get("subject"), get("date"), get("message-id")
    if (
        "content-disposition" in fields
        or (subject and "=?" in subject)
        or get("content-transfer-encoding", "").lower() not in _ENCODINGS
        or not _isPlain(get("content-type", ""))
    ):
        return None
    ending = head[end + 4 :]
    if b"\0" in ending or not _isUtf8(ending):
        return None
    return Summary.ofPlainText(
        storable(_text(subject), MAX_SUBJECT) if subject is not None else None,
        readDate(date) if date is not None else None,
        storable(_text(messageId), MAX_MESSAGE_ID) if messageId else None,
        ending,
    )


def _isUtf8(octets: bytes) -> bool:
    if octets.isascii():  # for which no text is made, as nearly always
        return True
    try:
        octets.decode()
    except UnicodeDecodeError:
        return False
    return True


def _text(value: str) -> str:
    return value if value.isascii() else decode(value.encode("latin-1"))


@lru_cache(maxsize=256)
def _isPlain(contentType: str) -> bool:
    fields = {b"content-type": contentType.encode("latin-1")}
    return kindOf(fields, "text/plain") == "text/plain" and charsetOf(fields) in PLAIN_CHARSETS
