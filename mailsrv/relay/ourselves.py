"""Which connections lead back to this very server."""

from __future__ import annotations

from collections.abc import Iterable

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IAddress

_ANY = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


class Ourselves:
    """The ports that a server listens on, by their addresses; others than of TCP do not count.

    Who listens on all addresses of a machine need not know them: a connection from a machine to
    itself has the same address at both its ends. (On a machine with several addresses in one
    network only the first of them; of the others a mail that goes round counts its hops.)
    """

    def __init__(self, ports: Iterable[IAddress]) -> None:
        self._places = {
            (port.host, port.port) for port in ports if isinstance(port, IPv4Address | IPv6Address)
        }

    def isAt(self, near: IAddress, far: IAddress) -> bool:
        """Whether the far end of a connection, whose near end is ours too, is one of them."""
        port = getattr(far, "port", None)
        hosts = {host for host, each in self._places if each == port}
        isSame = getattr(near, "host", None) == getattr(far, "host", "")
        return getattr(far, "host", "") in hosts or (isSame and not hosts.isdisjoint(_ANY))
