"""Texts of options into values; each raises ValueError with a text for people."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import isfinite

from mailsrv.relay.webhook import parseWebhook
from mailsrv.remote import parseSmartHost
from mailsrv.smtp.address import domainKey, isDomain
from mailsrv.store.dialect import parseUrl

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def number(low: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit()) or int(text) < low:
            raise ValueError(f"{text!r} is not a whole number of {low} or more")
        return int(text)

    return parse


def seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not isfinite(number) or number <= 0:
        raise ValueError(f"{text!r} is not a number of seconds above 0")
    return number


def choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"{text!r} is not one of: {', '.join(allowed)}")
        return text

    return parse


def flag(text: str) -> bool:
    word = text.lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("", "0", "false", "no", "off"):
        return False
    raise ValueError(f"{text!r} is not one of: true, false")


def words(text: str) -> str:
    if not text:
        raise ValueError("it is empty")
    return text


def port(text: str) -> str:
    """A port number or an endpoint; '' is none."""
    if text.removeprefix("haproxy:").startswith("ssl:"):
        raise ValueError("for TLS from the first octet give a port or tcp:… to --smtps")
    if ":" in text or not text:
        return text
    if text.isascii() and text.isdigit() and int(text) < 65536:
        return str(int(text))
    raise ValueError(
        f"{text!r} is neither a port number (0 to 65535) nor an endpoint such as "
        "tcp:25:interface=0.0.0.0"
    )


def interface(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        raise ValueError(
            f"{text!r} is not an IP address; give one of this machine's, or 0.0.0.0 for all"
        ) from None


def domain(text: str) -> str:
    """A domain, as A-label in lower case."""
    name = domainKey(text)
    if not (name.isascii() and isDomain(name)):
        raise ValueError(f"{text!r} is not a domain such as example.com")
    return name


def network(text: str) -> Network:
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a network such as 192.0.2.0/24 or an address such as 192.0.2.7"
        ) from None
    if ipaddress.ip_interface(text).ip != found.network_address:
        raise ValueError(f"{text!r} is an address in the network {found}; write one of these")
    return found


def url(text: str) -> str:
    parseUrl(text)
    return text


@dataclass(frozen=True, slots=True)
class Named:
    """Something of third parties: its name, and what it is told."""

    name: str
    options: Mapping[str, str]


def named(text: str) -> Named:
    """`NAME` or `NAME:key=value:…`; a backslash makes a colon part of a value."""
    name, *pairs = (part.replace("\\:", ":") for part in re.split(r"(?<!\\):", text))
    options = dict(pair.partition("=")[::2] for pair in pairs)
    if not name or not all(options) or not all("=" in pair for pair in pairs):
        raise ValueError(f"{text!r} is not NAME or NAME:key=value")
    return Named(name, options)


smartHost = parseSmartHost
webhook = parseWebhook


def defaultHostname() -> str:
    """The machine's own name where it will do in a greeting, else localhost; asks no DNS."""
    try:
        return domain(socket.gethostname())
    except ValueError:
        return "localhost"
