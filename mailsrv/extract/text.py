"""Text out of octets: transfer encodings (RFC 2045 §6) and charsets."""

from __future__ import annotations

import binascii
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from encodings import normalize_encoding
from encodings.aliases import aliases
from functools import lru_cache

MAX_SUBJECT = 1000  # characters
MAX_BODY = 65_536  # characters
MAX_MESSAGE_ID = 998  # characters: a line of RFC 5322 §2.1.1

PLAIN_CHARSETS = frozenset(("", "us-ascii", "utf-8"))


def fromBase64(octets: bytes) -> bytes:
    """Decode base64, what is not of its alphabet passed over, the end possibly missing."""
    try:
        return binascii.a2b_base64(octets + b"==")
    except binascii.Error:  # one character too many, which alone says nothing
        kept = re.sub(rb"[^A-Za-z0-9+/]+", b"", octets)
        return binascii.a2b_base64(kept[: len(kept) // 4 * 4])


def fromUuencode(octets: bytes) -> bytes:
    """Decode the first file in `octets`; as they are where there is none."""
    start = re.search(rb"^begin .*\n", octets, re.MULTILINE)
    if start is None:
        return octets
    decoded = bytearray()
    with suppress(binascii.Error):  # what follows is no uuencode, `end` for one
        for line in filter(None, octets[start.end() :].split(b"\n")):
            decoded += binascii.a2b_uu(line)
    return bytes(decoded)


TRANSFER_DECODERS: Mapping[bytes, Callable[[bytes], bytes]] = {
    b"base64": fromBase64,
    b"quotedprintable": binascii.a2b_qp,
    b"xuuencode": fromUuencode,
    b"uuencode": fromUuencode,
    b"xuue": fromUuencode,
}

# Only charsets named here are looked up: Python would try to import a module for any other name
# and remember it for ever. Of those it has, punycode and idna are quadratic.
_CODECS = frozenset(aliases.values()) - {"ascii"} | {"cp874", "koi8_t", "koi8_u", "utf_8_sig"}
# What is labelled with the left is in practice the wider right. ASCII is left to the guess.
_WIDER = {"shift_jis": "cp932", "euc_kr": "cp949", "gb2312": "gb18030", "gbk": "gb18030"}
_WIDER |= {"windows_874": "cp874", "x_sjis": "cp932", "iso_8859_8_i": "iso8859_8"}


def decode(octets: bytes, charset: str = "") -> str:
    """The text in `octets`; of an unknown charset (or none) UTF-8 where it is valid, else Latin-1.

    What the charset cannot decode is replaced.
    """
    codec = _codec(charset[:40])
    if codec:
        with suppress(LookupError, ValueError):  # a codec that is not for text, or breaks
            # UTF-7 can name halves of surrogate pairs, which no database takes.
            return octets.decode(codec, "replace").encode("utf-8", "replace").decode()
    with suppress(UnicodeDecodeError):
        return octets.decode()
    return octets.decode("latin-1")


@lru_cache(maxsize=256)
def _codec(charset: str) -> str | None:
    name = normalize_encoding(charset).lower()
    name = aliases.get(name, name)
    name = _WIDER.get(name, name)
    return name if name in _CODECS else None


def storable(text: str, limit: int) -> str:
    """The text without NUL, which not every database takes, cut at `limit` characters."""
    return text[:limit].replace("\0", "\ufffd")
