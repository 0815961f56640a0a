"""Subject, date, body and Message-ID out of the head of a message, whatever its octets.

Nothing here recurses, and every step is linear in the octets it is given; what could still be
too much is bounded by counts. So no content needs a time limit.
"""

from __future__ import annotations

from mailsrv.extract.header import (
    Fields,
    charsetOf,
    encodingOf,
    kindOf,
    readDate,
    readHeader,
    readSubject,
)
from mailsrv.extract.markup import htmlText
from mailsrv.extract.parts import Part, Parts
from mailsrv.extract.text import TRANSFER_DECODERS, decode
from mailsrv.smtp.message import Summary

__all__ = ["extract", "extractPlain"]

MAX_HEAD = 1_048_576  # octets looked at
MAX_SUBJECT = 1000  # characters
MAX_BODY = 65_536  # characters
MAX_MESSAGE_ID = 998  # characters: a line of RFC 5322 §2.1.1

PLAIN_SIZE = 65_536  # octets of a message that may be read inline
PLAIN_HEADER = 8192  # octets of its header

_PLAIN_ENCODINGS = frozenset((b"", b"7bit", b"8bit", b"binary"))
_PLAIN_CHARSETS = frozenset(("", "us-ascii", "utf-8"))


def extractPlain(head: bytes) -> Summary | None:
    """The Summary of a small message of plain text; None where it takes the longer `extract`.

    Quick enough for the reactor's thread. Where it answers, it answers as `extract` does.
    """
    headerEnd = head.find(b"\r\n\r\n", 0, PLAIN_HEADER)
    if len(head) > PLAIN_SIZE or headerEnd < 0:
        return None
    octets = _canonical(head)
    fields, start = readHeader(octets, 0)
    if (
        b"content-disposition" in fields
        or b"=?" in fields.get(b"subject", b"")
        or fields.get(b"content-transfer-encoding", b"").lower() not in _PLAIN_ENCODINGS
        or kindOf(fields, "text/plain") != "text/plain"
        or charsetOf(fields) not in _PLAIN_CHARSETS
    ):
        return None
    return _summary(fields, _partText(octets[start:], fields, "text/plain"))


def extract(head: bytes) -> Summary:
    """The Summary of the message that begins with `head`, of which 1 MiB is looked at.

    A field, or a body, that is missing or cannot be made sense of is None. The subject is decoded
    (RFC 2047, RFC 6532); a date without zone is UTC, one outside the years 1000 to 9999 invalid.
    The body is the first text/plain part that is no attachment; where there is none, or it is
    blank, the first text/html part without its tags, else other text, else that of an embedded
    message. Text that is there and empty is ''.
    Line ends are LF; NUL and what is no character are replaced. Raises nothing.
    """
    octets = _canonical(head[:MAX_HEAD])
    fields, start = readHeader(octets, 0)
    return _summary(fields, _body(octets, fields, start))


def _summary(fields: Fields, body: str | None) -> Summary:
    subject, date, messageId = map(fields.get, (b"subject", b"date", b"message-id"))
    return Summary(
        subject=None if subject is None else _storable(readSubject(subject), MAX_SUBJECT),
        date=None if date is None else readDate(date),
        body=body,
        messageId=_storable(decode(messageId), MAX_MESSAGE_ID) if messageId else None,
    )


def _canonical(octets: bytes) -> bytes:
    return octets.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _storable(text: str, limit: int) -> str:
    return text[:limit].replace("\0", "\ufffd")


def _body(octets: bytes, fields: Fields, start: int) -> str | None:
    firsts: dict[int, tuple[Part, int]] = {}
    for part, end in Parts(octets).walk(fields, start):
        if part.rank is not None:
            firsts.setdefault(part.rank, (part, end))
    blank = None
    for _, (part, end) in sorted(firsts.items(), key=lambda item: item[0]):
        text = _partText(octets[part.start : end], part.fields, part.kind)
        if text and not text.isspace():
            return text
        blank = text if blank is None else blank
    return blank


def _partText(octets: bytes, fields: Fields, kind: str) -> str:
    """What a person reads of a text part."""
    decoder = TRANSFER_DECODERS.get(encodingOf(fields))
    if decoder:
        octets = decoder(octets)
    if kind == "text/html":
        return _storable(htmlText(decode(octets, charsetOf(fields)), MAX_BODY), MAX_BODY)
    text = decode(_window(octets), charsetOf(fields))
    return _storable(text.replace("\r\n", "\n").replace("\r", "\n"), MAX_BODY)


def _window(octets: bytes) -> bytes:
    """As many octets as MAX_BODY characters can take, not cut within a character of UTF-8."""
    end = 4 * MAX_BODY
    while end < len(octets) and octets[end] & 0xC0 == 0x80 and end > 4 * MAX_BODY - 3:
        end -= 1
    return octets[:end]
