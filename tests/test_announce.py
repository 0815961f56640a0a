"""What a server says when it starts."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import address

from mailsrv.announce import showAddress


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (address.IPv4Address("TCP", "127.0.0.1", 25), "127.0.0.1:25"),
        (address.IPv6Address("TCP", "::1", 25), "[::1]:25"),
        (address.UNIXAddress("/run/smtp"), "/run/smtp"),
        (address.UNIXAddress(None), "a socket without a name"),
    ],
)
def test_an_address_is_shown_as_people_write_it(place: Any, text: str) -> None:
    assert showAddress(place) == text
