"""Three nodes that are one database: killed in turn under load, and shared by several servers."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from integration.galera import Cluster, Node, cluster
from integration.ledger import Ledger
from integration.realserver import LIMIT, Server, StartServer
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from rawsmtp import RawSmtp

__all__ = ["cluster"]
pytestmark = pytest.mark.torture


@pytest.fixture
def mail(cluster: Cluster) -> Cluster:
    """A cluster with the tables."""
    upgrade(parseUrl(cluster.url()))
    return cluster


def test_what_was_answered_250_is_on_every_node_once_though_each_is_killed(
    mail: Cluster, startServer: StartServer
) -> None:
    ledger = Ledger()
    server = startServer("--db-timeout", "10", url=mail.url())
    used = 0
    with ledger.sending(server.port):
        for node in mail.nodes:
            ledger.awaitMore(200)
            used += isUsed(node)
            node.kill()
            ledger.awaitMore(200)
            node.join(mail.nodes)
        ledger.awaitMore(200)
    print(f"\n{ledger}; 3 nodes, each killed once and back, {used} under the server")
    differences = []
    for node in mail.nodes:
        differences.append(ledger.compare(lambda node=node: subjects(node)))
        print(f"{node.place.name}: {len(subjects(node))} stored: {differences[-1]}")
    assert all(difference.isNone for difference in differences)
    assert used >= 2, "the server was hardly troubled"
    assert set(ledger.refusals) <= {"421 4.3.0"}
    assert subjects(mail.nodes[0]) == subjects(mail.nodes[1]) == subjects(mail.nodes[2])
    assert {node.status("cluster_size") for node in mail.nodes} == {"3"}


def isUsed(node: Node) -> bool:
    """Whether the server has connections to it."""
    return bool(node.mail("SELECT 1 FROM information_schema.processlist WHERE user = 'mail'"))


def subjects(node: Node) -> list[tuple[str, ...]]:
    return node.mail("SELECT subject, id FROM messages ORDER BY id")


def test_two_servers_on_two_nodes_relay_nothing_twice(
    mail: Cluster, startServer: StartServer
) -> None:
    sink = startServer()
    first, second, _ = mail.nodes
    relays = [
        startServer(
            *("--domain", "example.com", "--relay-client", "127.0.0.1"),
            *("--smart-host", f"smtp://{sink.address}"),
            url=mail.url(*nodes),
        )
        for nodes in ([first, second], [second, first])
    ]
    with ThreadPoolExecutor() as senders:
        list(senders.map(handIn, [relays[number % 2] for number in range(8)], range(8)))
    states = "SELECT state, attempts, COUNT(*) FROM queue GROUP BY 1, 2"
    deadline = time.monotonic() + 3 * LIMIT
    while first.mail(states) != [("sent", 1, 800)]:
        assert time.monotonic() < deadline, first.mail(states)
        time.sleep(0.1)
    arrived = Counter(subject for (subject,) in sink.rows("SELECT subject FROM messages"))
    sent = [sum("relayed id=" in line for line in relay.log) for relay in relays]
    print(
        f"\n800 relayed, by one server {sent[0]}, by the other {sent[1]}: {arrived.total()} arrived"
    )
    assert set(arrived) == {f"{sender}-{number}" for sender in range(8) for number in range(100)}
    assert set(arrived.values()) == {1}
    assert all(sent)


def handIn(relay: Server, sender: int) -> None:
    with RawSmtp(relay.port) as client:
        client.command("EHLO client.example")
        for number in range(100):
            client.envelope("a@example.org", "b@elsewhere.test")
            reply = client.content(f"Subject: {sender}-{number}\r\n\r\n".encode())
            assert reply.startswith("250 ")
