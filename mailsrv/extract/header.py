"""The fields of a header: unfolded, decoded, read (RFC 5322, RFC 2045, RFC 2047)."""

from __future__ import annotations

import binascii
import re
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_tz
from functools import lru_cache

from mailsrv.extract.text import decode, fromBase64

MAX_HEADER = 262_144  # octets of one header
DAY = 86_400  # seconds: no zone is so far from UTC
MAX_WORDS = 200  # encoded words decoded in a subject; what follows them stays as it is

Fields = dict[bytes, bytes]

NAMES = frozenset(
    "subject date message-id content-type content-transfer-encoding content-disposition".split()  # noqa: SIM905
)
_WANTED = frozenset(name.encode() for name in NAMES)
# A line that begins with -- is taken for a delimiter of parts, never for a field.
_NAME = rb"(?!--)([!-9;-~]+)[ \t]*:"
_FIELD = re.compile(_NAME + rb"(.*(?:\n[ \t].*)*)\n?")
# A line that is no field but stands before one: mbox's From, a line folded without its space.
_STRAY = re.compile(rb"(?!--).+(?:\n[ \t].*)*\n(?=" + _NAME + rb")")
_STRAY_START = (b"From ", b">From ", b" ", b"\t")

_TYPE = re.compile(rb"[ \t\"]*([^\s;/()\"]+/[^\s;/()\"]+)")
_CHARSET = re.compile(rb"[;\s]charset\s*=[\s\"']*([^\s;\"'()]+)", re.IGNORECASE)
_BOUNDARY = re.compile(rb"[;\s]boundary\s*=\s*(?:\"([^\"]*)\"|([^\s;]+))", re.IGNORECASE)
_NO_LETTERS = re.compile(rb"[^a-z0-9]+")
_WORD = re.compile(rb"=\?([^?\s]+)\?([bq])\?", re.IGNORECASE)
_MONTHS = dict(
    zip(
        "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(),  # noqa: SIM905
        (f"{number:02}" for number in range(1, 13)),
        strict=True,
    )
)
# What follows a zone is a comment. Python 3.13 knows an hour 24.
_DATE = re.compile(
    r"(?:\w{3}, )?(\d\d?) (\w{3}) (20\d\d) ((?!24)\d\d:\d\d:\d\d) ([+-]\d{4})(?: |\Z)", re.ASCII
)


def readHeader(octets: bytes, start: int) -> tuple[Fields, int]:
    """The fields we read, by lower-case name and unfolded, and where the body starts.

    Of a field said twice the first counts. (RFC 5322 §2.2)
    """
    fields: Fields = {}
    limit = start + MAX_HEADER
    pos = start
    while True:
        if field := _FIELD.match(octets, pos, limit):
            _keep(fields, *field.groups())
            pos = field.end()
            continue
        if pos == start and not octets.startswith(_STRAY_START, pos):
            break
        stray = _STRAY.match(octets, pos, limit)
        if stray is None:
            break
        pos = stray.end()
    if pos > start and limit < len(octets) and octets.find(b"\n", pos, limit) < 0:
        blank = octets.find(b"\n\n", limit - 1)
        return fields, blank + 2 if blank >= 0 else len(octets)
    return fields, pos + 1 if octets.startswith(b"\n", pos) else pos


def _keep(fields: Fields, name: bytes, value: bytes) -> None:
    known = name.lower()
    if known in _WANTED and known not in fields:
        fields[known] = value.replace(b"\n", b"").strip()


def kindOf(fields: Fields, default: str) -> str:
    """The media type in lower case; `default` where there is none, text/plain for no valid one."""
    value = fields.get(b"content-type")
    if not value:
        return default
    match = _TYPE.match(value)
    return match[1].decode("latin-1").lower() if match else "text/plain"


def charsetOf(fields: Fields) -> str:
    """The charset parameter in lower case, '' for none."""
    match = _CHARSET.search(fields.get(b"content-type", b""))
    return match[1].decode("latin-1").lower() if match else ""


def boundaryOf(fields: Fields) -> bytes:
    """The boundary parameter, b'' for none."""
    match = _BOUNDARY.search(fields.get(b"content-type", b""))
    return (match[1] or match[2] or b"").rstrip() if match else b""


def readDate(value: str) -> datetime | None:
    """The instant in UTC, None where it is invalid or before the year 1000 (RFC 5322 §3.3).

    `value` has an octet a character.
    """
    return _usualDate(value) or _anyDate(value)


@lru_cache(maxsize=64)
def _usualDate(value: str) -> datetime | None:
    """What `_anyDate` gives for the form nearly all mail has, in 1 µs instead of 3.5; remembered,
    as what comes together was written in the same second."""
    if match := _DATE.match(value):
        day, month, year, time, zone = match.groups()
        try:
            iso = f"{year}-{_MONTHS[month]}-{day.zfill(2)}T{time}{zone}"
            return datetime.fromisoformat(iso).astimezone(UTC)
        except (LookupError, ValueError):
            pass
    return None


def _anyDate(value: str) -> datetime | None:
    try:
        parsed = parsedate_tz(value[:1000])
        if parsed is None:
            return None
        year, month, day, hour, minute, second = parsed[:6]
        # Second 60 is a leap second, which RFC 5322 §3.3 allows and datetime does not.
        local = datetime(year, month, day, hour, minute, second - (second == 60), tzinfo=UTC)
        offset = parsed[9] or 0
        date = local - timedelta(seconds=offset)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        return None  # parsedate_tz, too, raises on some strings
    return date if date.year >= 1000 and abs(offset) < DAY else None


def encodingOf(fields: Fields) -> bytes:
    """The transfer encoding, of its letters and digits only: many write `7-bit`, `base64;`."""
    value = fields.get(b"content-transfer-encoding", b"")
    return _NO_LETTERS.sub(b"", value.partition(b";")[0].lower()) if value else b""


def readSubject(value: bytes) -> str:
    """The field with its encoded words decoded, on one line."""
    if b"=?" not in value:
        return decode(value)
    text = "".join(decode(octets, charset) for charset, octets in _words(value))
    return text.replace("\r", "").replace("\n", "")


def _words(value: bytes) -> list[tuple[str, bytes]]:
    """The value in pieces of (charset, octets); '' is the charset of what was not encoded.

    Adjacent words of one charset are one piece: a character may be split between them.
    """
    pieces: list[tuple[str, bytes]] = []
    pos = 0
    for _ in range(MAX_WORDS):
        word = _WORD.search(value, pos)
        end = value.find(b"?=", word.end()) if word else -1
        if word is None or end < 0:
            break
        octets = value[word.end() : end]
        octets = fromBase64(octets) if word[2] in b"Bb" else binascii.a2b_qp(octets, header=True)
        charset = word[1].decode("latin-1").lower().partition("*")[0]  # RFC 2231 §5: a language
        gap = value[pos : word.start()]
        if gap.strip() or not pos:
            pieces.append(("", gap))
        if pieces[-1][0] == charset:
            octets = pieces.pop()[1] + octets
        pieces.append((charset, octets))
        pos = end + 2
    pieces.append(("", value[pos:]))
    return pieces
