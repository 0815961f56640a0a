"""The way to a domain: which of its hosts is asked, and what is said where none takes the mail."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed

from mailsrv.client.nexthop import LOOP, TAKES_NO_MAIL, NextHop, NoNextHop
from mailsrv.interfaces import UnexpectedReply
from mailsrv.relay.route import MAX_HOSTS, Route
from mailsrv.smtp import local
from mailsrv.smtp.reply import Reply, reply

NO_SERVICE = reply(554, "5.3.2", "no service here")
GOING = reply(421, "4.3.2", "going away")


class Way:
    """A transport that connects, or fails with a reply."""

    def __init__(self, asked: list[str], name: str, refusal: Reply | None) -> None:
        self.name = name
        self.hasQuit = False
        self._asked = asked
        self._refusal = refusal

    def connect(self) -> Deferred[None]:
        self._asked.append(self.name)
        return succeed(None) if self._refusal is None else fail(UnexpectedReply(self._refusal))

    def quit(self) -> Deferred[None]:
        self.hasQuit = True
        return succeed(None)


def connected(hosts: list[list[Reply | None]]) -> tuple[str | Reply, list[str]]:
    """The name of the way that led to a connection, or the reply that says why none did; and
    which were tried. For each host what its ways answer."""
    asked: list[str] = []
    hops = [NextHop(f"host{number}", "192.0.2.1") for number in range(len(hosts))]

    def ways(hop: NextHop) -> list[Any]:
        answers = hosts[hops.index(hop)]
        return [Way(asked, f"{hop.host}.{n}", refusal) for n, refusal in enumerate(answers)]

    results: list[Any] = []
    Route(lambda _: succeed(hops), ways).connect("x.example").addBoth(results.append)
    [result] = results
    return (result.name if isinstance(result, Way) else result.value.reply), asked


@pytest.mark.parametrize(
    ("hosts", "result", "asked"),
    [
        ([[None, None], [None]], "host0.0", ["host0.0"]),
        ([[local.CANNOT_CONNECT], [None]], "host1.0", ["host0.0", "host1.0"]),
        ([[NO_SERVICE], [None]], "host1.0", ["host0.0", "host1.0"]),
        ([[NO_SERVICE], [GOING], [NO_SERVICE]], GOING, ["host0.0", "host1.0", "host2.0"]),
        ([[NO_SERVICE], [NO_SERVICE]], NO_SERVICE, ["host0.0", "host1.0"]),
        ([[local.TLS_FAILED, None]], "host0.1", ["host0.0", "host0.1"]),
        ([[local.TLS_FAILED], [None]], "host1.0", ["host0.0", "host1.0"]),
        ([[local.CANNOT_CONNECT, None]], local.CANNOT_CONNECT, ["host0.0"]),
    ],
    ids=["best", "next", "5yz", "4yz", "all 5yz", "without TLS", "TLS elsewhere", "no TLS fault"],
)
def test_the_best_host_that_will_have_us(
    hosts: list[list[Reply | None]], result: str | Reply, asked: list[str]
) -> None:
    assert connected(hosts) == (result, asked)


def test_only_so_many_hosts_are_asked() -> None:
    assert len(connected([[local.CANNOT_CONNECT]] * 20)[1]) == MAX_HOSTS


@pytest.mark.parametrize(
    ("before", "says"),
    [([], LOOP), ([local.CANNOT_CONNECT], local.CANNOT_CONNECT), ([NO_SERVICE], NO_SERVICE)],
    ids=["best", "one is down", "one refuses"],
)
def test_from_ourselves_on_no_host_is_asked(before: list[Reply], says: Reply) -> None:
    asked: list[str] = []
    ways = [Way(asked, str(n), reply) for n, reply in enumerate([*before, None, None])]
    ours = ways[len(before)]
    hops = [NextHop(way.name, "192.0.2.1") for way in ways]
    route: Any = Route(
        lambda _: succeed(hops),
        lambda hop: [ways[int(hop.host)]],  # type: ignore[list-item]
        lambda way: way is ours,  # type: ignore[comparison-overlap]
    )
    results: list[Any] = []
    route.connect("x.example").addErrback(results.append)
    assert results[0].value.reply == says
    assert asked == [way.name for way in ways[:-1]]
    assert ours.hasQuit


def test_nowhere_to_go_is_an_answer_too() -> None:
    results: list[Any] = []
    route = Route(lambda _: fail(NoNextHop(TAKES_NO_MAIL)), lambda _: [])
    route.connect("x.example").addErrback(results.append)
    assert results[0].value.reply == TAKES_NO_MAIL
