"""From the store over HTTP to an application that fails and is killed, by two servers at once."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, gatherResults, maybeDeferred
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from mailsrv.interfaces import Event
from mailsrv.relay import events
from mailsrv.relay.events import CallableReceiver, Courier, Couriers, RetryPlan
from mailsrv.relay.webhook import WebhookReceiver, parseWebhook
from mailsrv.smtp.message import Recipient
from mailsrv.store.dialect import SqliteDialect
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.sqlevents import SqlEvents
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing import makeMessage

KEY = b"k" * 32
LIMIT = 60.0  # seconds a test may take
QUICK = RetryPlan(first=0.05, factor=1.5, longest=0.3, attempts=1000)


class Application(Resource):
    """Verifies, keeps and orders what it gets; fails every third time; can be killed.

    Killed, it forgets the requests it has not answered, in the middle of a word.
    """

    isLeaf = True

    def __init__(self, reactor: Any) -> None:
        super().__init__()
        self.reactor = reactor
        self.asked = 0
        self.kills = 0
        self.taken: list[str] = []  # ids, as often as they were taken
        self.byRecipient: dict[str, list[str]] = defaultdict(list)
        self.bodies: dict[str, set[bytes]] = defaultdict(set)
        self.heard: Deferred[None] = Deferred()
        self.connections: list[Any] = []
        self.port: Any = None
        self.number = 0
        self.live()

    def live(self) -> None:
        site = Site(self)
        site.noisy = False
        site.log = lambda request: None
        self.port = self.reactor.listenTCP(self.number, site, interface="127.0.0.1")
        self.number = self.port.getHost().port

    def kill(self) -> None:
        self.kills += 1
        maybeDeferred(self.port.stopListening)
        for channel in set(self.connections):
            channel.abortConnection()
        self.connections.clear()
        self.reactor.callLater(0.1, self.live)

    def render_POST(self, request: Request) -> bytes | int:
        body = request.content.read()
        id, stamp, signed = (
            request.getHeader(f"webhook-{name}") for name in ("id", "timestamp", "signature")
        )
        digest = hmac.new(KEY, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()
        assert signed == "v1," + base64.b64encode(digest).decode()
        self.asked += 1
        self.connections.append(request.transport)
        if self.asked % 3 == 0:
            request.setResponseCode((500, 503, 302, 404)[self.asked % 4])
            return b"not now"
        if self.asked % 50 == 0:
            self.take(id, body)  # it is killed with the work done and no answer given
            self.reactor.callLater(0, self.kill)
            return NOT_DONE_YET
        if self.asked % 35 == 0:
            self.reactor.callLater(0, self.kill)
            return NOT_DONE_YET
        self.take(id, body)
        return b""

    def take(self, id: str, body: bytes) -> None:
        fields = json.loads(body)
        assert fields["id"] == id
        self.bodies[id].add(body)
        self.taken.append(id)
        for recipient in fields["envelope"]["recipients"]:
            self.byRecipient[recipient["address"]].append(id)
        heard, self.heard = self.heard, Deferred()
        heard.callback(None)


class Server:
    """A server on the database: a store and its couriers."""

    def __init__(self, dialect: SqliteDialect, reactor: Any, receivers: Any) -> None:
        destinations = [receiver.destination for receiver in receivers]
        self.store = SqlStore(
            ConnectionPool(dialect, reactor, 1), reactor, destinations=destinations
        )
        self.pool = ConnectionPool(dialect, reactor, 1, "events")
        source = SqlEvents(self.pool)
        self.couriers = Couriers(
            Courier(source, receiver, reactor, timeout=2.0, plan=QUICK) for receiver in receivers
        )
        self.couriers.start()

    async def send(self, number: int, *recipients: str) -> str:
        message = makeMessage(
            b"%d" % number, recipients=tuple(Recipient(f"{each}@x.example") for each in recipients)
        )
        await self.store.store(message)
        self.couriers.messageStored(None, message, 0.0)
        return message.id

    async def stop(self) -> None:
        await self.couriers.stop(4.0)
        await self.store.close()
        await self.pool.close()


@pytest.fixture
def dialect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SqliteDialect:
    monkeypatch.setattr(events, "POLL", 0.05)
    monkeypatch.setattr(events, "LEASE_MARGIN", 1.0)
    dialect = SqliteDialect(tmp_path / "mail.db")
    upgrade(dialect)
    return dialect


def firsts(ids: list[str]) -> list[str]:
    return list(dict.fromkeys(ids))


@pytest_twisted.ensureDeferred
async def test_every_message_reaches_an_application_that_fails_and_is_killed(
    dialect: SqliteDialect,
) -> None:
    from twisted.internet import reactor

    application = Application(reactor)
    hook = parseWebhook(f"http://127.0.0.1:{application.number}/")
    servers = [Server(dialect, reactor, [WebhookReceiver(hook, [KEY], reactor)]) for _ in range(2)]
    sent: list[str] = []
    byRecipient: dict[str, list[str]] = defaultdict(list)

    async def sendAll() -> None:
        for number in range(100):
            # One after the other, as only then there is an order; by one server or the other.
            recipients = {f"r{number % 5}", f"r{number % 7}"}
            id = await servers[number % 2].send(number, *recipients)
            sent.append(id)
            for each in recipients:
                byRecipient[f"{each}@x.example"].append(id)

    async def untilAllAreTaken() -> None:
        while len(set(application.taken)) < 100:
            await application.heard

    await sendAll()
    await Deferred.fromCoroutine(untilAllAreTaken()).addTimeout(LIMIT, reactor)
    for server in servers:
        await server.stop()
    await maybeDeferred(application.port.stopListening)

    assert application.kills >= 3
    assert set(application.taken) == set(sent)
    # An id is one message's, whole and always the same.
    assert all(len(bodies) == 1 for bodies in application.bodies.values())
    # Twice only what was taken and not answered: the kills after the work was done.
    assert len(application.taken) - len(sent) <= application.kills * 16
    assert {r: firsts(ids) for r, ids in application.byRecipient.items()} == byRecipient
    connection = dialect.connect()
    states = connection.execute("SELECT DISTINCT state FROM events").fetchall()
    lanes = connection.execute("SELECT count(*) FROM event_lanes").fetchone()
    connection.close()
    assert (states, lanes) == ([("delivered",)], (0,))


@pytest_twisted.ensureDeferred
async def test_the_events_of_a_server_that_dies_are_delivered_by_another(
    dialect: SqliteDialect,
) -> None:
    from twisted.internet import reactor

    claimed: Deferred[None] = Deferred()

    def dies(event: Event) -> Deferred[None]:
        claimed.callback(None)
        return Deferred()

    taken: list[tuple[str, int]] = []
    done: Deferred[None] = Deferred()

    def takes(event: Event) -> None:
        taken.append((event.id, event.attempt))
        if len(taken) == 3:
            done.callback(None)

    first = Server(dialect, reactor, [CallableReceiver(dies)])
    ids = [await first.send(number, "bob") for number in range(3)]
    await claimed.addTimeout(LIMIT, reactor)
    # Nothing of it moves any more, as after a kill -9.
    [courier] = first.couriers._couriers
    courier._source.turn = lambda *args: Deferred()
    second = Server(dialect, reactor, [CallableReceiver(takes)])
    await done.addTimeout(LIMIT, reactor)
    assert taken == [(ids[0], 2), (ids[1], 1), (ids[2], 1)]
    await gatherResults([Deferred.fromCoroutine(each.stop()) for each in (first, second)])


@pytest_twisted.ensureDeferred
async def test_a_store_answers_at_once_while_every_receiver_hangs(dialect: SqliteDialect) -> None:
    from twisted.internet import reactor

    hanging = [CallableReceiver(lambda event: Deferred(), name) for name in ("a", "b")]
    server = Server(dialect, reactor, hanging)

    async def sendAll() -> None:
        for number in range(50):
            await server.send(number, f"r{number}")

    await Deferred.fromCoroutine(sendAll()).addTimeout(LIMIT, reactor)
    await server.stop()
    connection = dialect.connect()
    rows = connection.execute("SELECT DISTINCT state, claimed_by FROM events").fetchall()
    connection.close()
    assert rows == [("waiting", None)]
