"""What only a real socket shows: going unnoticed, being reset by one's own unread octets."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.internet.task import deferLater

from mailsrv.extensions.standard import standardExtensions
from mailsrv.interfaces import Limits
from mailsrv.server.factory import SmtpServerFactory
from mailsrv.server.wire import Hold
from mailsrv.testing import HeldStore
from smtpconversation import HOST, StaticDirectory

BEGIN = b"HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n"


class Client(Protocol):
    def __init__(self) -> None:
        self.heard = b""
        self.reason: Any = None

    def dataReceived(self, data: bytes) -> None:
        self.heard += data

    def connectionLost(self, reason: Any = None) -> None:
        self.reason = reason


class Running:
    """A server on a free port of loopback."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.store = HeldStore()
        self.factory = SmtpServerFactory(
            self.store,
            StaticDirectory(),
            reactor,
            hostname=HOST,
            extensions=standardExtensions(),
            limits=Limits(maxErrors=2),
        )

    async def start(self) -> None:
        endpoint = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        self.port = await endpoint.listen(self.factory)

    async def connect(self) -> Client:
        endpoint = TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.port.getHost().port)
        return await connectProtocol(endpoint, Client())

    async def until(self, happened: Callable[[], object], limit: float = 10.0) -> None:
        end = self.reactor.seconds() + limit
        while not happened():
            assert self.reactor.seconds() < end, "it did not happen in time"
            await deferLater(self.reactor, 0.005)


@pytest_twisted.async_yield_fixture
async def server() -> AsyncIterator[Running]:
    from twisted.internet import reactor

    running = Running(reactor)
    await running.start()
    yield running
    await running.port.stopListening()
    for protocol in list(running.factory._protocols):
        protocol.transport.abortConnection()
    await running.until(lambda: not running.factory.connections)


@pytest_twisted.ensureDeferred
async def test_a_client_that_breaks_off_while_its_message_is_held_is_noticed(
    server: Running,
) -> None:
    client = await server.connect()
    client.transport.write(BEGIN + b"Subject: x\r\n.\r\n")
    await server.until(lambda: server.store.waiting)
    client.transport.abortConnection()
    await server.until(lambda: not server.store.waiting)


@pytest_twisted.ensureDeferred
async def test_a_client_that_only_closes_its_side_is_answered(server: Running) -> None:
    """Nobody can tell it from one that has gone; Exim does so behind its last chunk."""
    client = await server.connect()
    client.transport.write(BEGIN + b"Subject: x\r\n.\r\nQUIT\r\n")
    await server.until(lambda: server.store.waiting)
    client.transport.loseWriteConnection()
    [protocol] = server.factory._protocols
    await server.until(lambda: protocol._isHalfClosed)
    server.store.commit()
    await server.until(lambda: not server.factory.connections)
    assert b"\r\n250 2.0.0 OK id=" in client.heard
    assert b"\r\n221 " in client.heard


@pytest_twisted.ensureDeferred
async def test_a_client_still_sending_reads_why_it_is_sent_away(server: Running) -> None:
    client = await server.connect()
    client.transport.write(b"FOO\r\n" * 3 + b"NOOP\r\n" * 200_000)
    await server.until(lambda: b"421 4.7.0 " in client.heard)
    assert client.heard.endswith(b"421 4.7.0 mx.example.org too many errors\r\n")
    client.transport.loseConnection()
    await server.until(lambda: not server.factory.connections)


@pytest_twisted.ensureDeferred
async def test_a_server_that_stops_waits_for_the_commit_and_then_for_nobody(
    server: Running,
) -> None:
    client, idle = await server.connect(), await server.connect()
    client.transport.write(BEGIN + b"Subject: x\r\n.\r\n")
    await server.until(lambda: server.store.waiting and idle.heard)
    over: Deferred[None] = server.factory.shutdown()
    await server.until(lambda: b"421 4.3.2" in idle.heard)
    assert b"421" not in client.heard
    server.store.commit()
    await server.until(lambda: b"421 4.3.2" in client.heard)
    assert b"250 2.0.0 OK id=" in client.heard
    await server.until(lambda: idle.heard.count(b"\r\n") == 2)
    for each in (client, idle):
        each.transport.loseConnection()
    await over


@pytest_twisted.ensureDeferred
async def test_a_client_that_floods_a_held_session_is_not_read(server: Running) -> None:
    client = await server.connect()
    client.transport.write(BEGIN + b"Subject: x\r\n.\r\n")
    await server.until(lambda: server.store.waiting)
    client.transport.write(b"NOOP\r\n" * 1_000_000)
    other = await server.connect()
    other.transport.write(b"NOOP\r\n")
    await server.until(lambda: b"250" in other.heard)
    (held,) = [one for one in server.factory._protocols if one._hold]
    assert len(held._buffer) <= 2 * 65_536
    server.store.commit()
    await server.until(lambda: client.heard.count(b"\r\n") > 1000)


@pytest_twisted.ensureDeferred
async def test_quit_closes_cleanly_and_the_221_arrives(server: Running) -> None:
    client = await server.connect()
    client.transport.write(b"QUIT\r\n")
    await server.until(lambda: client.reason)
    assert client.heard.endswith(b"221 2.0.0 mx.example.org closing the connection\r\n")
    assert client.reason.type.__name__ == "ConnectionDone"


@pytest_twisted.ensureDeferred
async def test_a_client_that_does_not_read_is_held_and_loses_no_reply(server: Running) -> None:
    client = await server.connect()
    await server.until(lambda: client.heard)
    client.transport.pauseProducing()
    commands = 40_000
    client.transport.write(b"HELP\r\n" * commands + b"QUIT\r\n")
    await server.until(lambda: next(iter(server.factory._protocols))._hold & Hold.OUTPUT)
    client.transport.resumeProducing()
    await server.until(lambda: client.reason, limit=30)
    assert client.heard.count(b"214 2.0.0 HELP command tells more\r\n") == commands
    assert client.heard.endswith(b"221 2.0.0 mx.example.org closing the connection\r\n")
