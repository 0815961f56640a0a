"""xtext: any text within the grammar of a parameter (RFC 3461 §4)."""

from __future__ import annotations

import re

_XTEXT = re.compile(r"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEX = re.compile(r"\+([0-9A-F]{2})")
_UNSAFE = re.compile(r"[^!-*,-<>-~]")


def isXtext(text: str) -> bool:
    """Whether `text` is xtext."""
    return _XTEXT.fullmatch(text) is not None


def decodeXtext(text: str) -> str:
    """The text behind xtext; octets that are no UTF-8 become U+FFFD."""
    octets = _HEX.sub(lambda match: chr(int(match[1], 16)), text).encode("latin-1", "replace")
    return octets.decode("utf-8", "replace")


def encodeXtext(text: str) -> str:
    """`text`, as UTF-8, in xtext."""
    return _UNSAFE.sub(lambda match: f"+{ord(match[0]):02X}", text.encode().decode("latin-1"))
