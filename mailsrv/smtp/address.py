"""Addresses: domains, mailboxes and paths (RFC 5321 §4.1.2, RFC 6531 §3.3)."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

MAX_LOCAL_PART = 64  # octets, §4.5.3.1.1
MAX_DOMAIN = 255  # octets, §4.5.3.1.2
MAX_PATH = 256  # octets with its brackets, §4.5.3.1.3

_UPPER = re.compile("[A-Z]+")

# U+0080 and up stand for the UTF-8 of RFC 6531; who may use them is the session's question.
# Lone surrogates are no UTF-8. A run of characters is never given back (++) and what may follow
# it begins with another character, so that no text, however made, takes more than two passes.
# (Groups are repeated with a plain *: *+ over a group is broken before Python 3.11.5.)
_UTF8 = r"\u0080-\ud7ff\ue000-\U0010ffff"
_ATEXT = rf"[A-Za-z0-9!#$%&'*+/=?^_`{{|}}~\-{_UTF8}]"
_ALNUM = rf"[A-Za-z0-9_{_UTF8}]"
_LABEL = rf"{_ALNUM}++(?:-++{_ALNUM}++)*"
_DOMAIN = rf"{_LABEL}(?:\.{_LABEL})*"
_LITERAL = r"\[[!-Z^-~]++\]"
_DOT_STRING = rf"{_ATEXT}++(?:\.{_ATEXT}++)*"
_QUOTED = rf'"(?:[ !#-\[\]-~{_UTF8}]++|\\[ -~])*"'

_DOMAIN_RE = re.compile(_DOMAIN)
_DOT_STRING_RE = re.compile(_DOT_STRING)
_QUOTED_PAIR = re.compile(r"\\(.)")
_MAILBOX_RE = re.compile(rf"({_DOT_STRING}|{_QUOTED})@({_DOMAIN}|{_LITERAL})")
# Source routes are accepted and ignored (§3.6.1, App. C).
_ROUTE_RE = re.compile(rf"@(?:{_DOMAIN}|{_LITERAL})(?:,@(?:{_DOMAIN}|{_LITERAL}))*:")


@dataclass(frozen=True, slots=True)
class Mailbox:
    """local-part@domain as given; the null reverse-path has neither, <postmaster> no domain."""

    localPart: str
    domain: str

    def __str__(self) -> str:
        return f"{self.localPart}@{self.domain}" if self.domain else self.localPart

    @property
    def isNull(self) -> bool:
        """Whether this is <>, the sender of notifications (§4.5.5)."""
        return not self.localPart and not self.domain

    @property
    def isAscii(self) -> bool:
        return self.localPart.isascii() and self.domain.isascii()

    @property
    def key(self) -> str:
        """What addresses are compared by: A-Z folded, a plain quoted local part unquoted,
        the domain as A-label."""
        return _key(self.localPart, self.domain)


NULL_PATH = Mailbox("", "")


def foldCase(text: str) -> str:
    """Fold A-Z only: no two addresses are merged by a wider idea of case."""
    return _UPPER.sub(lambda match: match[0].lower(), text)


@lru_cache(maxsize=1024)
def domainKey(domain: str) -> str:
    """The domain as A-label in lower case; as given, folded, where IDNA has no answer."""
    if domain.isascii():
        return foldCase(domain)
    try:
        return domain.encode("idna").decode("ascii").lower()
    except UnicodeError:
        return foldCase(domain)


@lru_cache(maxsize=1024)
def _key(localPart: str, domain: str) -> str:
    local = foldCase(unquote(localPart))
    return f"{local}@{domainKey(domain)}" if domain else local


def unquote(localPart: str) -> str:
    """The local part without quotes it does not need: "bob" is bob (§4.1.2)."""
    if not localPart.startswith('"'):
        return localPart
    plain = _QUOTED_PAIR.sub(r"\1", localPart[1:-1])
    return plain if _DOT_STRING_RE.fullmatch(plain) else localPart


def isDomain(text: str) -> bool:
    """Whether `text` may follow HELO or EHLO: a domain or an address literal (§4.1.1.1, §4.1.3).

    Underscores are tolerated: many hosts have them in their names.
    """
    if text.startswith("["):
        return isAddressLiteral(text)
    return _DOMAIN_RE.fullmatch(text) is not None and len(text.encode()) <= MAX_DOMAIN


def isAddressLiteral(text: str) -> bool:
    """Whether `text` is [192.0.2.1] or [IPv6:2001:db8::1] (§4.1.3)."""
    if not (text.startswith("[") and text.endswith("]")):
        return False
    inner = text[1:-1]
    try:
        if inner[:5].upper() == "IPV6:":
            ipaddress.IPv6Address(inner[5:])
            return "%" not in inner
        ipaddress.IPv4Address(inner)
    except ValueError:
        return False
    return True


def parseMailbox(text: str) -> Mailbox | None:
    """`text` as a mailbox, local-part@domain without brackets; None where it is not one."""
    match = _MAILBOX_RE.fullmatch(text)
    return None if match is None else _mailbox(*match.groups())


def _mailbox(local: str, domain: str) -> Mailbox | None:
    """The mailbox of two parts that match, if they are not too long."""
    if len(local.encode()) > MAX_LOCAL_PART or len(domain.encode()) > MAX_DOMAIN:
        return None
    if domain.startswith("[") and not isAddressLiteral(domain):
        return None
    return Mailbox(local, domain)


def scanPath(text: str) -> tuple[Mailbox, int] | None:
    """The path `text` begins with, and where it ends; None where there is none.

    A path is <mailbox>, <route:mailbox>, <postmaster> or <>; which of them a command takes is
    the command's question. (§4.1.2)
    """
    if not text.startswith("<"):
        return None
    if text.startswith("<>"):
        return NULL_PATH, 2
    start = 1
    route = _ROUTE_RE.match(text, 1)
    if route is not None:
        start = route.end()
    match = _MAILBOX_RE.match(text, start)
    if match is None:
        if route is None and text[1:12].lower() == "postmaster>":
            return Mailbox(text[1:11], ""), 12
        return None
    end = match.end()
    if text[end : end + 1] != ">" or len(text[: end + 1].encode()) > MAX_PATH:
        return None
    mailbox = _mailbox(*match.groups())
    return None if mailbox is None else (mailbox, end + 1)
