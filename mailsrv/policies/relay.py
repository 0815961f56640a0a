"""Relaying: mail for other domains only from those who may (RFC 5321 §7.1)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence

from mailsrv.interfaces import ISession, ITransaction, MaybeDeferredAnswer
from mailsrv.policies.policy import Policy
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox, domainKey

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class RelayPolicy(Policy):
    """550 5.7.1 to a recipient elsewhere, unless the client logged in or its network is listed."""

    def __init__(self, domains: Collection[str], relayClients: Sequence[Network] = ()) -> None:
        self._domains = frozenset(map(domainKey, domains))
        self._relayClients = tuple(relayClients)

    def atRcpt(self, transaction: ITransaction, forwardPath: Mailbox) -> MaybeDeferredAnswer:
        if not forwardPath.domain or domainKey(forwardPath.domain) in self._domains:
            return None
        return None if self._mayRelay(transaction.session) else r.RELAY_DENIED

    def _mayRelay(self, session: ISession) -> bool:
        if session.identity:
            return True
        if not self._relayClients:
            return False
        try:
            address = ipaddress.ip_address(session.peer)
        except ValueError:
            return False
        mapped = getattr(address, "ipv4_mapped", None) or address
        return any(mapped in network for network in self._relayClients)
