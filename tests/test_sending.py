"""What leaves a server: next hops by DNS, TLS where it works, and what may be missing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.logger import formatEvent, globalLogPublisher
from twisted.names import dns
from twisted.names.error import DNSQueryTimeoutError
from twisted.names.resolve import ResolverChain

from clientnetwork import PeerFactory, certificateFor
from mailsrv import sending
from mailsrv.interfaces import UnexpectedReply
from mailsrv.process import StartError
from mailsrv.remote import parseSmartHost, transportTo
from mailsrv.sending import Sending, makeResolver
from mailsrv.settings import readSettings
from mailsrv.smtp.message import Forward
from mailsrv.store.dialect import parseUrl
from mailsrv.store.directory import SinkDirectory
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing import makeMessage
from relay.relayworld import Sink, until

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

SCRIPT = {
    "CONNECT": b"220 mx.example\r\n",
    "EHLO": b"250-mx.example\r\n250 STARTTLS\r\n",
    "MAIL": b"250 ok\r\n",
    "RCPT": b"250 ok\r\n",
    "DATA": b"354 go\r\n",
    ".": b"250 2.0.0 queued\r\n",
    "QUIT": b"221 bye\r\n",
}


class Names:
    """A resolver that knows one MX, on this machine."""

    def lookupMailExchange(self, name: str, timeout: Any = None) -> Any:
        return succeed(([dns.RRHeader(name, dns.MX, payload=dns.Record_MX(1, "mx.far"))], [], []))

    def lookupAddress(self, name: str, timeout: Any = None) -> Any:
        return succeed(([dns.RRHeader(name, dns.A, payload=dns.Record_A("127.0.0.1"))], [], []))

    def lookupIPV6Address(self, name: str, timeout: Any = None) -> Any:
        return succeed(([], [], []))


class NoNames:
    """A resolver that hears of nobody."""

    def _ask(self, name: str, timeout: Any = None) -> Any:
        return fail(DNSQueryTimeoutError(1))

    lookupMailExchange = lookupAddress = lookupIPV6Address = _ask


class World:
    """A Sending with a database and a store; all mail goes to a port of this machine."""

    def __init__(self, directory: Path, ports: Sequence[IAddress] = (), **given: list[str]) -> None:
        self._ports = ports
        url = f"sqlite:{directory}/mail.db"
        given = {"domain": ["example.com"], "hostname": ["mx.example.com"], **given}
        self.settings = readSettings({"db": [url], **given}, {})[0]
        self.dialect = parseUrl(url)
        upgrade(self.dialect)
        clock: Any = reactor
        self.store = SqlStore(ConnectionPool(self.dialect, clock, 1), clock)
        self.sending = Sending(self.settings, self.dialect, clock, SinkDirectory(), self.store)

    async def put(self) -> None:
        forwards = (Forward("bob@far.test", "bob@far.test"),)
        message = makeMessage(b"hello\r\n", recipients=(), forwards=forwards)
        await self.store.store(message)
        for observer in self.sending.observers:
            observer.messageStored(None, message, 0.0)  # type: ignore[arg-type]

    def queued(self) -> tuple[str, str]:
        connection = self.dialect.connect()
        txn = connection.cursor()
        txn.execute("SELECT state, COALESCE(last_reply, '') FROM queue")
        [row] = txn.fetchall()
        connection.close()
        return tuple(row)

    async def __aenter__(self) -> World:
        self.sending.start(self._ports)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.sending.stop(3.0)
        await self.store.close()
        await self.sending.close(2.0)


@pytest.fixture
def viaMx(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Have every mail host be a port of this machine."""

    def route(port: int) -> None:
        monkeypatch.setattr(sending, "makeResolver", lambda reactor: Names())
        monkeypatch.setattr(sending, "OWN_ADDRESSES", ())
        monkeypatch.setattr(sending, "MX_PORT", port)

    return route


# To a mail host


@pytest_twisted.ensureDeferred
async def test_a_domains_mail_goes_to_its_mx(tmp_path, viaMx):
    sink = Sink()
    viaMx(sink.port)
    async with World(tmp_path) as world:
        await world.put()
        await until(lambda: sink.messages)
        await until(lambda: world.queued()[0] == "sent")
    await sink.close()


@pytest_twisted.ensureDeferred
async def test_a_mail_host_that_turns_out_to_be_ourselves_gets_no_mail(tmp_path, viaMx):
    us = Sink()
    viaMx(us.port)
    world = World(tmp_path, ports=[IPv4Address("TCP", "0.0.0.0", us.port)])
    async with world:
        await world.put()
        await until(lambda: world.queued()[0] == "failed")
    assert world.queued()[1] == "554 5.4.6 The mail would come back to this host"
    assert us.messages == []
    await us.close()


@pytest.mark.parametrize("host", ["mx.far", "somebody.else"])
@pytest_twisted.ensureDeferred
async def test_tls_is_used_with_whatever_certificate_a_mail_host_has(tmp_path, viaMx, host):
    factory = PeerFactory({**SCRIPT, "STARTTLS": lambda peer: peer.startTLS(host=host)})
    await talk(tmp_path, viaMx, factory)
    assert b"MAIL" not in b" ".join(factory.clear)
    assert any(line.startswith(b"MAIL FROM:<") for line in factory.secure)


@pytest_twisted.ensureDeferred
async def test_mail_goes_in_clear_where_tls_fails(tmp_path, viaMx):
    def fail(peer: Any) -> None:
        peer.transport.write(b"220 go\r\n")
        peer.transport.loseConnection()

    factory = AgainFactory({**SCRIPT, "STARTTLS": fail})
    await talk(tmp_path, viaMx, factory)
    assert len(factory.peers) == 2
    assert any(line.startswith(b"MAIL FROM:<") for line in factory.clear)


@pytest_twisted.ensureDeferred
async def test_mail_goes_in_clear_where_pyopenssl_is_not_installed(tmp_path, viaMx, monkeypatch):
    monkeypatch.setitem(sys.modules, "twisted.internet.ssl", None)
    factory = AgainFactory(SCRIPT)
    with logged() as lines:
        await talk(tmp_path, viaMx, factory)
    assert b"STARTTLS" not in factory.clear
    assert any("without TLS: pip install 'smtpstore[tls]'" in line for line in lines)


class AgainFactory(PeerFactory):
    """For more than one connection."""

    def buildProtocol(self, addr: Any) -> Any:
        self.gone = Deferred()
        return super().buildProtocol(addr)


async def talk(tmp_path: Path, viaMx: Any, factory: PeerFactory) -> None:
    """One message to a mail host that is written here."""
    factory.script = {**factory.script, "SUBJECT:": b"", "": b"", "HELLO": b"", "RECEIVED:": b""}
    port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    viaMx(port.getHost().port)
    async with World(tmp_path) as world:
        world.sending.announce()
        await world.put()
        await until(lambda: world.queued()[0] == "sent")
    await port.stopListening()
    for peer in factory.peers:
        peer.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_without_dns_mail_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(sending, "makeResolver", lambda reactor: NoNames())
    async with World(tmp_path) as world:
        await world.put()
        await until(lambda: world.queued()[1])
        assert world.queued() == ("waiting", "451 4.4.3 The domain name system gives no answer")


def test_who_is_asked_for_names():
    clock = Clock()
    resolver = makeResolver(clock)
    assert isinstance(resolver, ResolverChain)
    assert len(resolver.resolvers) == 3


def test_a_resolv_conf_that_cannot_be_read_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setattr(sending, "_RESOLV_CONF", str(tmp_path))
    with logged() as lines:
        makeResolver(Clock())
    assert any("127.0.0.1 is asked" in line for line in lines)


# To a smart host


@pytest_twisted.ensureDeferred
async def test_a_smart_host_gets_the_mail_of_all_domains(tmp_path):
    await toSmartHost(tmp_path)


async def toSmartHost(tmp_path: Path) -> None:
    sink = Sink()
    url = f"smtp://127.0.0.1:{sink.port}"
    async with World(tmp_path, **{"smart-host": [url]}) as world:
        await world.put()
        await until(lambda: sink.messages)
    await sink.close()


@pytest.mark.parametrize("code", [b"554 5.7.1 go away\r\n", b"421 4.7.0 not now\r\n"])
@pytest_twisted.ensureDeferred
async def test_what_a_smart_host_has_against_us_fails_no_mail(tmp_path, code):
    factory = AgainFactory({**SCRIPT, "CONNECT": code})
    port: Any = reactor.listenTCP(0, factory, interface="127.0.0.1")  # type: ignore[attr-defined]
    url = f"smtp://127.0.0.1:{port.getHost().port}"
    async with World(tmp_path, **{"smart-host": [url]}) as world:
        await world.put()
        await until(lambda: world.queued()[1])
        state, reply = world.queued()
        assert state == "waiting"
        assert code.decode()[4:].strip() in reply
    await port.stopListening()


def test_a_smart_host_with_a_login_needs_pyopenssl(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "twisted.internet.ssl", None)
    for url in ("smtp://me:secret@a.example", "smtps://a.example"):
        with pytest.raises(StartError, match=r"needs pyOpenSSL: pip install 'smtpstore\[tls\]'"):
            World(tmp_path, **{"smart-host": [url]})


@pytest_twisted.ensureDeferred
async def test_a_smart_host_without_a_login_is_reached_in_clear_where_there_is_no_tls(
    tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "twisted.internet.ssl", None)
    await toSmartHost(tmp_path)


def test_a_sink_never_relays(tmp_path):
    with logged() as lines:
        world = World(tmp_path, domain=[], **{"smart-host": ["smtp://a.example"]})
        world.sending.announce()
    assert world.sending.observers == []
    assert any("--smart-host is of no use" in line for line in lines)


@pytest_twisted.ensureDeferred
async def test_tls_from_the_first_octet():
    factory = PeerFactory({"CONNECT": b"220 x\r\n"})
    port: Any = reactor.listenSSL(  # type: ignore[attr-defined]
        0, factory, certificateFor("127.0.0.1"), interface="127.0.0.1"
    )
    remote = parseSmartHost(f"smtps://127.0.0.1:{port.getHost().port}")
    with pytest.raises(UnexpectedReply) as refused:
        await transportTo(remote, reactor, "me.example").connect()
    assert refused.value.reply.code == 451  # the machine does not trust the CA of the tests
    assert factory.clear == []
    await port.stopListening()


# Webhooks


def test_webhooks_need_treq(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "treq.client", None)
    with pytest.raises(StartError, match=r"needs treq: pip install 'smtpstore\[webhook\]'"):
        World(tmp_path, webhook=["http://127.0.0.1:9/"])


@pytest_twisted.ensureDeferred
async def test_unsigned_webhooks_are_warned_of_and_no_password_is_shown(tmp_path):
    with logged() as lines:
        async with World(tmp_path, webhook=["http://me:secret@127.0.0.1:9/"]) as world:
            world.sending.announce()
    assert any("Webhooks are not signed: set SMTPSTORE_WEBHOOK_SECRET" in line for line in lines)
    assert any("Events go to http://127.0.0.1:9/" in line for line in lines)
    assert "secret" not in "".join(lines)
    assert len(world.sending.observers) == 2


@contextmanager
def logged() -> Iterator[list[str]]:
    """The lines of the log."""
    lines: list[str] = []

    def observe(event: Any) -> None:
        lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    try:
        yield lines
    finally:
        globalLogPublisher.removeObserver(observe)
