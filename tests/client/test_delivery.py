"""Content to the octet: over loopback TCP to our own server, and to Postfix's smtp-sink."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import pytest_twisted
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import ensureDeferred, gatherResults
from twisted.internet.endpoints import TCP4ClientEndpoint

from clientconversation import CONTENT
from clientnetwork import LIMIT, Listening
from corpusfiles import corpus
from mailsrv.client.envelope import Envelope
from mailsrv.client.transport import EsmtpTransport
from mailsrv.extensions.keywords import ClientKeyword
from mailsrv.extensions.standard import clientExtensions, standardExtensions
from mailsrv.interfaces import Limits
from mailsrv.server.factory import SmtpServerFactory
from mailsrv.smtp import local
from smtpconversation import RecordingStore, StaticDirectory

LIMITS = Limits(maxSize=2**26, maxLine=0)


def ourServer(store: RecordingStore, **limits) -> SmtpServerFactory:
    return SmtpServerFactory(
        store,
        StaticDirectory(),
        reactor,
        hostname="mx.example",
        extensions=standardExtensions(),
        limits=limits.get("limits", LIMITS),
    )


def transport(endpoint, extensions=None) -> EsmtpTransport:
    return EsmtpTransport(
        endpoint,
        reactor,
        helo="me.example",
        extensions=clientExtensions() if extensions is None else extensions,
    )


async def relayed(contents, extensions=None) -> list[bytes]:
    """What arrives at our own server of contents sent one after another over one connection."""
    store = RecordingStore()
    factory = ourServer(store)
    async with Listening(factory) as endpoint:
        client = transport(endpoint, extensions)
        await client.connect().addTimeout(LIMIT, reactor)
        for content in contents:
            sending = client.send(Envelope("a@example.org", ("bob@example.org",), content))
            result = await sending.addTimeout(LIMIT, reactor)
            assert result.isDelivered, result
        await client.quit().addTimeout(LIMIT, reactor)
        await factory.shutdown()
    return store.contents


@pytest.mark.parametrize("power", range(10, 21))
@pytest_twisted.ensureDeferred
async def test_a_dot_at_every_offset_around_a_power_of_two(power):
    line = b"x" * 62 + b"\r\n"
    contents = []
    for offset in range(-3, 4):
        before = line * (2**power // 64 - 1)
        before += b"y" * (2**power + offset - len(before) - 2) + b"\r\n"
        contents.append(before + b".\r\n..\r\n." + line)
    assert await relayed(contents, [ClientKeyword("PIPELINING")]) == contents


@pytest_twisted.ensureDeferred
async def test_the_corpus_arrives_to_the_octet():
    contents = [octets for _, octets in corpus()]
    assert await relayed(contents) == contents


@given(
    st.lists(
        st.lists(
            st.sampled_from([b"\r\n", b"\r\n.", b".", b"\r", b"\n", b"a", b"\0", b"\xff"])
        ).map(b"".join),
        min_size=1,
        max_size=20,
    )
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@pytest_twisted.ensureDeferred
async def test_any_octets_arrive(contents):
    assert await relayed(contents) == contents


@pytest_twisted.ensureDeferred
async def test_a_message_the_server_finds_too_long_does_not_end_the_connection():
    store = RecordingStore()
    factory = ourServer(store, limits=Limits(maxSize=1000))
    async with Listening(factory) as endpoint:
        client = transport(endpoint, [])
        await client.connect().addTimeout(LIMIT, reactor)
        codes = []
        for content in (b"x\r\n" * 5000, CONTENT, b"x" * 2000 + b"\r\n", CONTENT):
            result = await client.send(Envelope("", ("bob@example.org",), content))
            codes.append(result.recipients[0].reply.code)
        assert codes == [552, 250, 552, 250]
        await client.quit().addTimeout(LIMIT, reactor)
        await factory.shutdown()
    assert store.contents == [CONTENT, CONTENT]


# smtp-sink


class Sink:
    """Postfix's smtp-sink on a free port; `dumped` is what it kept."""

    def __init__(self, program: str, directory: Path, options: tuple[str, ...]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.directory = directory
        root = ("-u", "nobody") if os.geteuid() == 0 else ()
        arguments = [program, *root, "-R", str(directory), "-d", "dump/m."]
        self.process = subprocess.Popen([*arguments, *options, f"127.0.0.1:{self.port}", "20"])
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self.process.poll() is None, "smtp-sink did not start"
            time.sleep(0.02)
        raise AssertionError("smtp-sink does not listen")

    @property
    def endpoint(self) -> TCP4ClientEndpoint:
        return TCP4ClientEndpoint(reactor, "127.0.0.1", self.port)

    @property
    def dumped(self) -> list[bytes]:
        return [path.read_bytes() for path in self.directory.rglob("m.*")]

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(LIMIT)


@pytest.fixture
def sink(tool, tmp_path: Path) -> Iterator:
    running: list[Sink] = []

    def start(*options: str) -> Sink:
        tmp_path.chmod(0o777)
        running.append(Sink(tool("smtp-sink"), tmp_path, options))
        return running[-1]

    yield start
    for each in running:
        each.stop()


async def tried(endpoint, extensions=None, content=CONTENT, to=("b@example.org",)):
    client = transport(endpoint, extensions)
    try:
        await client.connect().addTimeout(LIMIT, reactor)
        return await client.send(Envelope("a@example.org", to, content)).addTimeout(LIMIT, reactor)
    finally:
        client.abort()


@pytest.mark.parametrize("options", [(), ("-p",), ("-e",), ("-8",)])
@pytest_twisted.ensureDeferred
async def test_smtp_sink_keeps_what_was_sent(sink, options):
    running = sink(*options)
    content = b"Subject: x\r\n\r\n" + b".dot\r\n..\r\nline\r\n" * 20_000
    result = await tried(running.endpoint, content=content)
    assert result.isDelivered
    (dumped,) = running.dumped
    # It writes lines as this machine does, behind header fields of its own.
    assert content.replace(b"\r\n", b"\n") in dumped


@pytest.mark.parametrize(
    ("options", "code"),
    [
        (("-f", "MAIL"), 500),
        (("-f", "RCPT"), 500),
        (("-f", "DATA"), 500),
        (("-f", "."), 500),
        (("-r", "MAIL"), 450),
        (("-r", "RCPT"), 450),
        (("-r", "DATA"), 450),
        (("-r", "."), 450),
        (("-q", "MAIL"), 451),
        (("-q", "RCPT"), 451),
        (("-q", "DATA"), 451),
        (("-q", "."), 451),
        (("-A", "0"), 550),
    ],
)
@pytest.mark.parametrize("isPipelined", [True, False])
@pytest_twisted.ensureDeferred
async def test_smtp_sinks_faults_are_every_recipients_reply(sink, options, code, isPipelined):
    running = sink(*options)
    extensions = [ClientKeyword("PIPELINING")] if isPipelined else []
    result = await tried(running.endpoint, extensions, to=("b@example.org", "c@example.org"))
    assert [each.reply.code for each in result.recipients] == [code, code]
    if options[0] == "-q":
        assert result.recipients[0].reply == local.DROPPED


@pytest_twisted.ensureDeferred
async def test_twenty_connections_at_once(sink):
    running = sink("-w", "1")
    results = await gatherResults([ensureDeferred(tried(running.endpoint)) for _ in range(20)])
    assert all(result.isDelivered for result in results)
    assert len(running.dumped) == 20
