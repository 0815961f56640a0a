"""Texts of options into values; each raises ValueError with a text for people."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from math import isfinite

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
    if ":" in text:
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
        return ipaddress.ip_network(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is not a network such as 192.0.2.0/24 or an address such as 192.0.2.7"
        ) from None


def url(text: str) -> str:
    parseUrl(text)
    return text


def notBuilt(*off: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in off:
            raise ValueError("not built yet")
        return text

    return parse


def flagNotBuilt(text: str) -> bool:
    if flag(text):
        raise ValueError("not built yet")
    return False


def defaultHostname() -> str:
    """The machine's own name where it will do in a greeting, else localhost; asks no DNS."""
    try:
        return domain(socket.gethostname())
    except ValueError:
        return "localhost"
