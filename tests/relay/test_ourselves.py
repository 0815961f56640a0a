"""Connections that lead back to the server itself."""

from __future__ import annotations

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IAddress

from mailsrv.relay.ourselves import Ourselves

PUBLIC = IPv4Address("TCP", "192.0.2.1", 25)
PUBLIC6 = IPv6Address("TCP", "2001:db8::1", 25)
LOCAL = IPv4Address("TCP", "127.0.0.1", 25)
ANY = IPv4Address("TCP", "0.0.0.0", 25)
ANY6 = IPv6Address("TCP", "::", 25)


def near(far: IPv4Address | IPv6Address) -> IAddress:
    """Our end of a connection to `far`, where that is on this machine."""
    return type(far)("TCP", far.host, 45678)


@pytest.mark.parametrize(
    ("port", "far"),
    [(ANY, PUBLIC), (ANY, LOCAL), (ANY6, PUBLIC6), (ANY6, PUBLIC), (PUBLIC, PUBLIC)],
)
def test_a_port_of_ours_on_this_machine_is_ourselves(
    port: IAddress, far: IPv4Address | IPv6Address
) -> None:
    assert Ourselves([UNIXAddress("/run/lmtp"), port]).isAt(near(far), far)


def test_an_address_we_listen_on_is_ourselves_wherever_the_connection_comes_from() -> None:
    assert Ourselves([PUBLIC]).isAt(IPv4Address("TCP", "192.0.2.7", 45678), PUBLIC)


@pytest.mark.parametrize(
    ("ports", "ours", "far"),
    [
        ([], near(PUBLIC), PUBLIC),
        ([ANY], IPv4Address("TCP", "192.0.2.7", 45678), PUBLIC),
        ([LOCAL], near(PUBLIC), PUBLIC),
        ([IPv4Address("TCP", "0.0.0.0", 2525)], near(PUBLIC), PUBLIC),
        ([ANY], UNIXAddress(None), UNIXAddress("/run/smtp")),
    ],
    ids=["no port", "another machine", "another program's address", "its port", "no address"],
)
def test_all_else_is_somebody_else(ports: list[IAddress], ours: IAddress, far: IAddress) -> None:
    assert not Ourselves(ports).isAt(ours, far)
