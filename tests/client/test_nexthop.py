"""Next hops, asked of a real name server on loopback with made-up zones."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import defer, reactor
from twisted.internet.error import TimeoutError
from twisted.names import client, dns, server
from twisted.names.error import DNSNameError, DNSServerError

from mailsrv.client import nexthop
from mailsrv.client.nexthop import NextHop, NextHops, NoNextHop

MX, A, AAAA, CNAME = dns.Record_MX, dns.Record_A, dns.Record_AAAA, dns.Record_CNAME
HOSTS = {f"mx{number}.example": [A(f"192.0.2.{number}")] for number in range(1, 5)}
ZONE = {
    **HOSTS,
    "mx6.example": [A("192.0.2.6"), AAAA("2001:db8::6")],
    "noaaaa.example": [A("192.0.2.7")],
    "many.example": [MX(20, "mx3.example"), MX(10, "mx1.example"), MX(10, "mx2.example")],
    "six.example": [MX(10, "mx6.example")],
    "none.example": [A("192.0.2.50"), AAAA("2001:db8::50")],
    "empty.example": [dns.Record_TXT(b"nothing here")],
    "null.example": [MX(0, "")],
    "alias.example": [CNAME("many.example")],
    "far.example": [CNAME("alias.example")],
    "dangling.example": [CNAME("nowhere.example")],
    "loop1.example": [CNAME("loop2.example")],
    "loop2.example": [CNAME("loop1.example")],
    "backup.example": [
        MX(10, "mx1.example"),
        MX(20, "US.example"),
        MX(20, "mx2.example"),
        MX(30, "mx3.example"),
    ],
    "ours.example": [MX(10, "us.example"), MX(20, "mx2.example")],
    "us.example": [A("192.0.2.99")],
    "also.example": [A("192.0.2.99")],
    "nohost.example": [MX(10, "gone.example"), MX(20, "empty.example")],
    "half.example": [MX(10, "gone.example"), MX(20, "mx2.example")],
    "sick.example": [MX(10, "broken.example")],
    "partly.example": [MX(10, "broken.example"), MX(20, "mx2.example")],
    "sickbehind.example": [MX(10, "broken.example"), MX(20, "us.example")],
    "viaalias.example": [MX(10, "host.example")],
    "host.example": [CNAME("mx1.example")],
    "crowd.example": [MX(10, "mx1.example")]
    + [MX(20, f"gone{n}.example") for n in range(9)]
    + [MX(30, "mx2.example")],
    "xn--bcher-kva.example": [MX(10, "mx1.example")],
    "strange.example": [
        MX(5, b"\xff\xfe.example"),
        MX(5, b"mx1.example\r\nStatus: 2"),
        MX(5, b"mx1 .example"),
        MX(10, "mx2.example"),
    ],
    "garbage.example": [MX(10, b"\xff.example")],
    "strangealias.example": [CNAME(b"\xff.example")],
}


class Zone:
    """Answers as an authority with this zone does; broken.example is SERVFAIL."""

    def query(self, query, timeout=None):
        name = query.name.name.decode().lower()
        if name == "broken.example" or (name == "noaaaa.example" and query.type == dns.AAAA):
            return defer.fail(DNSServerError())
        records = ZONE.get(name)
        if records is None:
            return defer.fail(DNSNameError())
        found = [each for each in records if each.TYPE in (query.type, dns.CNAME)]
        answers = [dns.RRHeader(name, each.TYPE, ttl=60, payload=each) for each in found]
        return defer.succeed((answers, [], []))


class NameServer(server.DNSServerFactory):
    noisy = False

    def gotResolverError(self, failure, protocol, message, address):
        if failure.check(DNSServerError):
            self.sendReply(protocol, self._responseFromMessage(message, rCode=dns.ESERVER), address)
        else:
            super().gotResolverError(failure, protocol, message, address)


@pytest_twisted.async_yield_fixture
async def resolver():
    protocol = dns.DNSDatagramProtocol(NameServer(clients=[Zone()]))
    protocol.noisy = False
    port = reactor.listenUDP(0, protocol, interface="127.0.0.1")
    asking = client.Resolver(servers=[("127.0.0.1", port.getHost().port)], timeout=(2,))
    asking.noisy = False
    yield asking
    await defer.maybeDeferred(port.stopListening)


def finder(resolver, **options) -> NextHops:
    return NextHops(
        resolver,
        ownNames=["us.example."],
        ownAddresses=["192.0.2.99", "2001:db8::99"],
        **{"shuffled": lambda hosts: hosts.sort(), **options},
    )


@pytest.mark.parametrize(
    ("domain", "addresses"),
    [
        ("many.example", ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("MANY.Example.", ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("six.example", ["192.0.2.6", "2001:db8::6"]),
        ("none.example", ["192.0.2.50", "2001:db8::50"]),
        ("alias.example", ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("far.example", ["192.0.2.1", "192.0.2.2", "192.0.2.3"]),
        ("viaalias.example", ["192.0.2.1"]),
        ("backup.example", ["192.0.2.1"]),
        ("half.example", ["192.0.2.2"]),
        ("partly.example", ["192.0.2.2"]),
        ("noaaaa.example", ["192.0.2.7"]),
        ("crowd.example", ["192.0.2.1"]),
        ("bücher.example", ["192.0.2.1"]),
        ("strange.example", ["192.0.2.2"]),
        ("[192.0.2.200]", ["192.0.2.200"]),
        ("[IPv6:2001:db8::1]", ["2001:db8::1"]),
    ],
)
@pytest_twisted.ensureDeferred
async def test_where_a_domains_mail_goes(resolver, domain, addresses):
    hops = await finder(resolver).ofDomain(domain)
    assert [hop.address for hop in hops] == addresses


@pytest.mark.parametrize(
    ("domain", "code", "enhanced"),
    [
        ("nowhere.example", 550, "5.1.2"),
        ("empty.example", 550, "5.1.2"),
        ("dangling.example", 550, "5.1.2"),
        ("null.example", 556, "5.1.10"),
        ("nohost.example", 550, "5.4.4"),
        ("garbage.example", 550, "5.4.4"),
        ("strangealias.example", 550, "5.1.2"),
        ("broken.example", 451, "4.4.3"),
        ("sick.example", 451, "4.4.3"),
        ("loop1.example", 451, "4.4.3"),
        ("ours.example", 554, "5.4.6"),
        ("us.example", 554, "5.4.6"),
        ("also.example", 554, "5.4.6"),
        ("sickbehind.example", 451, "4.4.3"),
        ("[192.0.2.99]", 554, "5.4.6"),
        ("[IPv6:2001:DB8:0::99]", 554, "5.4.6"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_why_mail_cannot_go_there(resolver, domain, code, enhanced):
    with pytest.raises(NoNextHop) as raised:
        await finder(resolver).ofDomain(domain)
    assert (raised.value.reply.code, raised.value.reply.enhanced) == (code, enhanced)


@pytest_twisted.ensureDeferred
async def test_hosts_of_equal_preference_are_shuffled_among_themselves(resolver):
    hops = await finder(resolver, shuffled=lambda hosts: hosts.sort(reverse=True)).ofDomain(
        "many.example"
    )
    assert hops == [
        NextHop("mx2.example", "192.0.2.2"),
        NextHop("mx1.example", "192.0.2.1"),
        NextHop("mx3.example", "192.0.2.3"),
    ]


@pytest_twisted.ensureDeferred
async def test_a_smart_hosts_own_mx_is_not_asked_for(resolver):
    assert await finder(resolver).ofHost("mx1.example") == [NextHop("mx1.example", "192.0.2.1")]
    with pytest.raises(NoNextHop) as raised:
        await finder(resolver).ofHost("many.example")
    assert raised.value.reply == nexthop.NO_SUCH_DOMAIN


@pytest.mark.parametrize("fault", [TimeoutError(), defer.TimeoutError(), OSError()])
def test_a_name_server_that_gives_no_answer_is_no_verdict(fault):
    class Silent:
        def lookupMailExchange(self, name):
            return defer.fail(fault)

    faults = []
    finder(Silent()).ofDomain("many.example").addErrback(faults.append)
    assert faults[0].value.reply == nexthop.DNS_DOWN
