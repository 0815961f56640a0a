"""Where mail for a domain goes next (RFC 5321 §5, RFC 7505)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from random import shuffle
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IResolver
from twisted.names import dns
from twisted.names.error import AuthoritativeDomainError, DNSNameError

from mailsrv.smtp import local
from mailsrv.smtp.address import domainKey, isAddressLiteral, isDomain
from mailsrv.smtp.local import LocalReply

MAX_CNAMES = 8
MAX_HOSTS = 10  # of a domain's MX records that are looked at, best first

NO_SUCH_DOMAIN = local.local(550, "5.1.2", "The domain does not exist, or has no address")
TAKES_NO_MAIL = local.local(556, "5.1.10", "The domain takes no mail (null MX)")
NO_HOST = local.local(550, "5.4.4", "None of the domain's mail hosts has an address")
DNS_DOWN = local.local(451, "4.4.3", "The domain name system gives no answer")
CNAME_LOOP = local.local(451, "4.4.3", "The domain is an alias that leads nowhere")
LOOP = local.local(554, "5.4.6", "The mail would come back to this host")


class NoNextHop(Exception):
    """There is nowhere to send it; `reply` says why, and by its class whether to try again."""

    def __init__(self, reply: LocalReply) -> None:
        super().__init__(reply.text)
        self.reply = reply


@dataclass(frozen=True, slots=True)
class NextHop:
    """A host that takes mail: its name (its address where that is all we have), one address."""

    host: str
    address: str


class NextHops:
    """Finds the hosts that take mail for a domain, by DNS.

    `resolver`: twisted.names. `ownNames`, `ownAddresses`: ours; a domain whose mail hosts name us
    goes only to those that are preferred to us. `shuffled`: puts a list in random order.
    """

    def __init__(
        self,
        resolver: IResolver,
        *,
        ownNames: Collection[str] = (),
        ownAddresses: Collection[str] = (),
        shuffled: Callable[[list[str]], None] = shuffle,
    ) -> None:
        self._resolver = resolver
        self._ownNames = {_name(name) for name in ownNames}
        self._ownAddresses = {ip_address(address) for address in ownAddresses}
        self._shuffle = shuffled

    def ofDomain(self, domain: str) -> Deferred[Sequence[NextHop]]:
        """The next hops for mail to `domain` (a domain or an address literal), best first.

        MX records in order of preference, equal ones in random order; without any the domain's
        own addresses. Fails with NoNextHop.
        """
        return Deferred.fromCoroutine(self._ofDomain(domain))

    def ofHost(self, host: str) -> Deferred[Sequence[NextHop]]:
        """The addresses of one host, a smart host say: no MX is asked for. Fails likewise."""
        return Deferred.fromCoroutine(self._ofHosts([(0, [_name(host)])], NO_SUCH_DOMAIN))

    async def _ofDomain(self, domain: str) -> Sequence[NextHop]:
        if isAddressLiteral(domain):
            return self._ofLiteral(domain)
        name = _name(domain)
        records = await self._lookUp(self._resolver.lookupMailExchange, name, dns.MX)
        exchanges = [(record.preference, _nameOf(record)) for record in records]
        if not exchanges:
            return await self._ofHosts([(0, [name])], NO_SUCH_DOMAIN)
        if all(not host for _, host in exchanges):
            raise NoNextHop(TAKES_NO_MAIL)
        return await self._ofHosts(self._inOrder(exchanges), NO_HOST)

    def _ofLiteral(self, literal: str) -> Sequence[NextHop]:
        address = literal[1:-1]
        if address[:5].upper() == "IPV6:":
            address = address[5:]
        if ip_address(address) in self._ownAddresses:
            raise NoNextHop(LOOP)
        return [NextHop(address, address)]

    def _inOrder(self, exchanges: Iterable[tuple[int, str]]) -> list[tuple[int, list[str]]]:
        groups: dict[int, list[str]] = {}
        for preference, host in exchanges:
            if isDomain(host):
                groups.setdefault(preference, []).append(host)
        for hosts in groups.values():
            self._shuffle(hosts)
        inOrder, room = [], MAX_HOSTS
        for preference, hosts in sorted(groups.items()):
            inOrder.append((preference, hosts[:room]))
            room -= len(hosts[:room])
        return inOrder

    async def _ofHosts(
        self, groups: list[tuple[int, list[str]]], nothing: LocalReply
    ) -> Sequence[NextHop]:
        """The addresses of hosts in groups of equal preference, up to the group we are in (§5.1).

        A host whose addresses cannot be had does not stand in the others' way.
        """
        hops: list[NextHop] = []
        fault = nothing
        for _, hosts in groups:
            group: list[NextHop] = []
            for host in hosts:
                try:
                    addresses = await self._addresses(host)
                except NoNextHop as none:
                    fault = none.reply if none.reply.code // 100 == 4 else fault
                    continue
                if self._isUs(host, addresses):
                    return _orFail(hops, fault if fault.code // 100 == 4 else LOOP)
                group += [NextHop(host, address) for address in addresses]
            hops += group
        return _orFail(hops, fault)

    def _isUs(self, host: str, addresses: Iterable[str]) -> bool:
        return host in self._ownNames or any(
            ip_address(address) in self._ownAddresses for address in addresses
        )

    async def _addresses(self, host: str) -> list[str]:
        """IPv4 first: it is what every mail host can be reached by. Fails where there is none."""
        if host in self._ownNames:
            return []
        addresses: list[str] = []
        fault = NO_SUCH_DOMAIN
        for ask, kind in (
            (self._resolver.lookupAddress, dns.A),
            (self._resolver.lookupIPV6Address, dns.AAAA),
        ):
            try:
                records = await self._lookUp(ask, host, kind)
            except NoNextHop as none:
                # Some name servers fail for AAAA alone: the other kind is enough.
                fault = none.reply if none.reply.code // 100 == 4 else fault
            else:
                addresses += [_address(record.address) for record in records]
        if not addresses:
            raise NoNextHop(fault)
        return addresses

    async def _lookUp(self, ask: Callable[..., Deferred[Any]], name: str, kind: int) -> list[Any]:
        """The payloads of the records of a name, CNAMEs followed; none where it has none."""
        for _ in range(MAX_CNAMES):
            try:
                answers, _authority, _additional = await ask(name)
            except (DNSNameError, AuthoritativeDomainError):
                raise NoNextHop(NO_SUCH_DOMAIN) from None
            except Exception:
                raise NoNextHop(DNS_DOWN) from None
            aliases = {
                _nameOf(record): _nameOf(record.payload)
                for record in answers
                if record.type == dns.CNAME
            }
            end = name
            for _ in range(MAX_CNAMES):
                end = aliases.get(end, end)
            found = [
                record.payload
                for record in answers
                if record.type == kind and _nameOf(record) == end
            ]
            if found or end == name:
                return found
            name = end
        raise NoNextHop(CNAME_LOOP)


def _orFail(hops: list[NextHop], fault: LocalReply) -> list[NextHop]:
    if not hops:
        raise NoNextHop(fault)
    return hops


def _address(packed: bytes) -> str:
    return str(ip_address(packed))


def _nameOf(record: Any) -> str:
    """The name a record is of, or names; any octet may stand in it."""
    return _name(record.name.name.decode("ascii", "backslashreplace"))


def _name(name: str) -> str:
    """As names are compared and asked for: A-labels in lower case, without the root's dot."""
    return domainKey(name).rstrip(".")
