"""From the queue in a real database, over real sockets, to next hops, some of them hostile."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from datetime import timedelta

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults

from corpusfiles import CORPUS, corpus
from mailsrv.client.envelope import Envelope
from mailsrv.extensions.standard import standardExtensions
from mailsrv.relay.delivery import Delivery
from mailsrv.relay.here import Here
from mailsrv.relay.observer import RelayObserver
from mailsrv.relay.reporter import Reporter
from mailsrv.relay.schedule import Schedule
from mailsrv.relay.worker import QueueWorker
from mailsrv.store.directory import SqlDirectory
from mailsrv.store.sqlqueue import SqlQueue
from relay.relayworld import HOST, RELAYED, Sink, SmtpSink, World, connector, now, until

ON_BOTH = pytest.mark.parametrize("url", ["sqlite", "mariadb"], indirect=True)


def freePort() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])


@pytest_twisted.ensureDeferred
async def test_every_message_of_the_corpus_arrives_to_the_octet(world: World, sink: Sink) -> None:
    octets = [each for _, each in corpus()]
    octets += [path.read_bytes() for path in CORPUS.rglob("*bad*") if path.is_file()]
    octets += [b"Subject: dots\r\n\r\n" + b".\r\n..\r\n.x\r\n" * 50, b"", b"."]
    await gatherResults([world.put(each) for each in octets])
    worker = world.worker()
    worker.start()
    await until(lambda: len(sink.messages) == len(octets))
    assert Counter(sink.contents) == Counter(RELAYED + each for each in octets)
    await until(lambda: world.states() == {"sent"})
    await until(lambda: worker.counters.sent == len(octets))


@ON_BOTH
@pytest_twisted.ensureDeferred
async def test_a_large_message_arrives_to_the_octet(world: World, sink: Sink) -> None:
    line = b"..0123456789\r\n"
    octets = b"Subject: large\r\n\r\n" + line * 350_000 + b"\xff" * 5 + b"\r\n"  # 4.7 MiB
    await world.put(octets)
    world.worker().start()
    await until(lambda: sink.messages)
    assert sink.contents == [RELAYED + octets]


@pytest_twisted.ensureDeferred
async def test_what_the_sender_asked_for_goes_with_the_mail_to_a_server_that_reports(
    world: World, sink: Sink
) -> None:
    await world.put(
        b"Subject: x\r\n\r\n",
        parameters="NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@y.example",
    )
    world.worker().start()
    await until(lambda: world.states() == {"sent"})
    [message] = sink.messages
    assert message.sender == "alice@example.org"
    [recipient] = message.recipients
    assert recipient.parameters == "NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;Bob@y.example"
    assert len(world.rows("SELECT id FROM messages")) == 1


@pytest_twisted.ensureDeferred
async def test_a_server_that_sends_no_reports_makes_us_report_in_the_senders_mailbox(
    world: World,
) -> None:
    sink = Sink([each for each in standardExtensions() if each.getKeyword() != "DSN"])
    world.port = sink.port
    id = await world.put(b"Subject: x\r\n\r\n", parameters="NOTIFY=SUCCESS")
    world.worker().start()
    await until(lambda: world.states() == {"sent"})
    assert sink.messages[0].recipients[0].parameters == ""
    [(subject, user, data)] = world.rows(
        "SELECT subject, user_id, data FROM messages JOIN recipients ON message_id = id"
    )
    assert (subject, user) == ("Relayed mail", 1)
    assert b"Action: relayed\r\nStatus: 2.0.0\r\nRemote-MTA: dns; mx.x.example\r\n" in data
    assert f"(id {id})".encode() in data
    await sink.close()


@pytest_twisted.ensureDeferred
async def test_a_report_for_a_sender_elsewhere_is_relayed_from_nobody(
    world: World, tool: Callable[[str], str]
) -> None:
    port = world.port = freePort()
    refusing = SmtpSink(tool("smtp-sink"), port, "-f", "RCPT")
    await world.put(b"Subject: x\r\n\r\n", sender="carol@far.example")
    world.worker().start()
    await until(lambda: [row[0] for row in world.rows()][:1] == ["failed"])
    refusing.close()
    sink = Sink()
    world.port = sink.port
    await until(lambda: sink.messages)
    [report] = sink.messages
    assert (report.sender, report.recipients[0].address) == ("", "carol@far.example")
    assert b"Diagnostic-Code: smtp; 500 5.3.0 Error: command failed" in sink.contents[0]
    await until(lambda: [row[0] for row in world.rows()] == ["failed", "sent"])
    await sink.close()


@pytest.mark.parametrize(
    ("options", "reply"),
    [
        (("-r", "CONNECT"), "450 "),
        (("-r", "MAIL"), "450 "),
        (("-r", "RCPT"), "450 "),
        (("-r", "DATA"), "450 "),
        (("-r", "."), "450 "),
        (("-q", "CONNECT"), "451 4.4."),
        (("-q", "EHLO"), "451 4.4."),
        (("-q", "MAIL"), "451 4.4."),
        (("-q", "DATA"), "451 4.4."),
        (("-q", "."), "451 4.4."),
        (("-Q", "MAIL"), "421 "),
        (("-Q", "."), "421 "),
        (None, "451 4.4.1 "),
    ],
    ids=lambda each: "".join(each) if isinstance(each, tuple) else None,
)
@pytest_twisted.ensureDeferred
async def test_a_fault_of_the_next_hop_is_tried_again_until_the_mail_is_taken(
    options: tuple[str, ...] | None, reply: str, world: World, tool: Callable[[str], str]
) -> None:
    port = world.port = freePort()
    faulty = None if options is None else SmtpSink(tool("smtp-sink"), port, *options)
    await gatherResults([world.put(b"Subject: %d\r\n\r\n" % number) for number in range(3)])
    slow = Schedule(intervals=(timedelta(seconds=0.2),), jitter=0.0)
    world.worker(schedule=slow, connectionsPerHop=1).start()
    await until(lambda: any((row[2] or "").startswith(reply) for row in world.rows()))
    assert world.states() == {"waiting"}
    if faulty is not None:
        faulty.close()
    sink = Sink()
    world.port = sink.port
    await until(lambda: world.states() == {"sent"})
    assert sorted(sink.contents) == [RELAYED + b"Subject: %d\r\n\r\n" % n for n in range(3)]
    assert world.rows("SELECT count(*) FROM messages") == [(3,)]  # and nobody was bothered
    await sink.close()


@pytest.mark.parametrize("option", ["MAIL", "RCPT", "DATA", "."])
@pytest_twisted.ensureDeferred
async def test_a_5yz_of_the_next_hop_is_reported_at_once(
    option: str, world: World, tool: Callable[[str], str]
) -> None:
    world.port = freePort()
    refusing = SmtpSink(tool("smtp-sink"), world.port, "-f", option)
    await world.put(b"Subject: x\r\n\r\n", "a@x.example", "b@x.example")
    worker = world.worker()
    worker.start()
    await until(lambda: world.states() == {"failed"})
    refusing.close()
    [(data,)] = world.rows("SELECT data FROM messages WHERE sender = ''")
    assert data.count(b"Action: failed\r\n") == 2
    await until(lambda: worker.counters.reports)
    assert (worker.counters.failed, worker.counters.reports) == (2, 1)


@ON_BOTH
@pytest_twisted.ensureDeferred
async def test_what_users_forward_goes_where_they_said_and_success_is_told(
    world: World, sink: Sink
) -> None:
    """A server, its directory, the queue and the worker, as a service puts them together."""
    world.sql("INSERT INTO users (address) VALUES ('alice@example.org'), ('ann@example.org')")
    world.sql(
        "INSERT INTO users (address, forward_to, keep) VALUES"
        " ('bob@example.org', 'ann@example.org', 0), ('joe@example.org', 'joe@far.example', 1)"
    )
    directory = SqlDirectory(world.pool, ["example.org"], world.reactor)
    queue = SqlQueue(world.pool, "server")
    reporter = Reporter(directory, HOST, now)
    delivery = Delivery(queue, reporter, world.reactor, now, Schedule())
    here = Here(directory, ["example.org"])
    worker = QueueWorker(
        queue, delivery, connector(lambda: sink.port), world.reactor, now, here=here
    )
    observer = RelayObserver(queue, world.store, reporter, worker.poke)
    server = Sink(store=world.store, directory=directory, observers=[observer])
    worker.start()
    transport = await connector(lambda: server.port)("here")
    notify = {"NOTIFY": "SUCCESS,FAILURE"}
    recipients = ("ann@example.org", "bob@example.org", "joe@example.org")
    result = await transport.send(
        Envelope(
            "alice@example.org", recipients, b"Subject: x\r\n\r\n", {"RET": "HDRS"},
            dict.fromkeys(recipients, notify),
        )
    )  # fmt: skip
    await transport.quit()
    assert result.isDelivered
    actions = "SELECT data FROM messages WHERE sender = '' ORDER BY id"
    await until(lambda: world.states() == {"sent"} and len(world.rows(actions)) == 2)
    held = world.rows(
        "SELECT u.address, count(*) FROM recipients r JOIN users u ON u.id = r.user_id"
        " JOIN messages m ON m.id = r.message_id WHERE m.sender <> '' GROUP BY 1 ORDER BY 1"
    )
    assert held == [("ann@example.org", 2), ("joe@example.org", 1)]
    [forwarded] = sink.messages
    assert forwarded.sender == "alice@example.org"
    assert forwarded.parameters.split()[-1] == "RET=HDRS"
    [recipient] = forwarded.recipients
    assert (recipient.address, recipient.parameters) == ("joe@far.example", "NOTIFY=FAILURE")
    told = b"".join(data for (data,) in world.rows(actions))
    for address, action in (("ann", "delivered"), ("bob", "delivered"), ("joe", "expanded")):
        final = f"Final-Recipient: rfc822; {address}@example.org\r\nAction: {action}\r\n"
        assert told.count(final.encode()) == 1
    await server.close()
    await worker.stop(5)


# Several workers


@ON_BOTH
@pytest_twisted.ensureDeferred
async def test_two_workers_on_one_database_send_nothing_twice(world: World, sink: Sink) -> None:
    octets = [b"Subject: %d\r\n\r\n" % number for number in range(200)]
    for worker in (world.worker("one", held=10), world.worker("two", held=10)):
        worker.start()
    await gatherResults([world.put(each) for each in octets])
    await until(lambda: world.states() == {"sent"})
    assert Counter(sink.contents) == Counter(RELAYED + each for each in octets)
    # Counted when the answer of the database is here, a moment after its rows say so.
    await until(lambda: sum(worker.counters.sent for worker in world.workers) >= 200)
    assert sum(worker.counters.sent for worker in world.workers) == 200
    assert all(worker.counters.sent for worker in world.workers)


@pytest_twisted.ensureDeferred
async def test_what_a_worker_that_hangs_had_claimed_another_one_sends(
    world: World, sink: Sink
) -> None:
    hung = world.worker("hung", connect=lambda _: Deferred(), lease=1.5)
    hung._renew = lambda: None  # type: ignore[method-assign]  # as dead as can be
    await world.put(b"Subject: x\r\n\r\n")
    hung.start()
    await until(lambda: hung.counters.held)
    world.worker("alive", lease=1.5).start()
    await until(lambda: world.states() == {"sent"})
    assert len(sink.messages) == 1


@pytest_twisted.ensureDeferred
async def test_what_a_worker_that_stops_had_claimed_another_one_sends_at_once(
    world: World, sink: Sink
) -> None:
    stopping = world.worker("stopping", connect=lambda _: Deferred())
    await world.put(b"Subject: x\r\n\r\n")
    stopping.start()
    await until(lambda: stopping.counters.held)
    await stopping.stop(2.1)
    world.worker("alive").start()
    await until(lambda: world.states() == {"sent"}, 5)
    assert world.rows() == [("sent", 1, world.rows()[0][2])]
