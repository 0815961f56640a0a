"""Any octets, cut anywhere: replies stay replies, and no 250 without its COMMIT."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

from mailsrv.server.site import Listener
from mailsrv.server.state import State
from mailsrv.testing import HeldStore
from smtpconversation import Client, Server, limited

TOKENS = [
    b"\r\n",
    b"\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b".",
    b"\r\n.\r\n",
    b"\r\n.\r\n",
    b" ",
    b"\0",
    b"\xff",
    "é".encode(),
    b"x",
    b"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
    b"x" * 3000,
    b"x" * 13_000,
    b"HELO c\r\n",
    b"EHLO [192.0.2.1]\r\n",
    b"LHLO c\r\n",
    b"MAIL FROM:<a@b.c>\r\n",
    b"MAIL FROM:<>\r\n",
    b"MAIL FROM:<a@b.c> SIZE=10 BODY=8BITMIME SMTPUTF8\r\n",
    b"MAIL FROM:<a@b.c> BODY=BINARYMIME\r\n",
    b"RCPT TO:<alice@example.org>\r\n",
    b"RCPT TO:<alice@example.org>\r\n",
    b"RCPT TO:<bob@example.org> NOTIFY=NEVER\r\n",
    b"RCPT TO:<nobody@example.org>\r\n",
    b"DATA\r\n",
    b"DATA\r\n",
    b"BDAT 3\r\n",
    b"BDAT 3 LAST\r\n",
    b"BDAT 0 LAST\r\n",
    b"BDAT 999999999999999999\r\n",
    b"RSET\r\n",
    b"NOOP\r\n",
    b"VRFY alice\r\n",
    b"EXPN team\r\n",
    b"HELP\r\n",
    b"QUIT\r\n",
    b"TURN\r\n",
    b"MAIL",
    b"RCPT TO:",
    b"FROM:<",
    b">",
    b"@",
]
# A transaction now and then, or random tokens would seldom get as far as the data.
TRANSACTION = b"EHLO c\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<alice@example.org>\r\n"
BEGINNINGS = [b"", TRANSACTION, TRANSACTION + b"DATA\r\n", TRANSACTION.replace(b"EHLO", b"LHLO")]

streams = st.builds(
    lambda beginning, tokens: beginning + b"".join(tokens),
    st.sampled_from(BEGINNINGS),
    st.lists(st.one_of(st.sampled_from(TOKENS), st.binary(max_size=4)), max_size=40),
)
cuts = st.lists(st.integers(0, 2000), max_size=12)
listeners = st.sampled_from([Listener(), Listener(), Listener(isLmtp=True)])

# RFC 5321 §4.2, and an enhanced code of the reply's own class where RFC 2034 asks for one.
LINES = re.compile(rb"(?:([2-5])[0-5][0-9](?:-[\t -~]*\r\n|(?: [\t -~]*)?\r\n))*")
BARE = re.compile(r"220 |354 |250[- ](mx\.example\.org greets |[A-Z0-9]+)")
ENHANCED = re.compile(r"([245])[0-5][0-9][ -]\1\.[0-9]+\.[0-9]+ .+")
IN_TRANSACTION = {State.MAIL, State.RCPT, State.CHUNKS, State.DATA, State.STORING}


@contextmanager
def nothingLogged() -> Iterator[None]:
    events: list[LogEvent] = []

    def observe(event: LogEvent) -> None:
        if event["log_level"] >= LogLevel.error:
            events.append(event)

    globalLogPublisher.addObserver(observe)
    try:
        yield
    finally:
        globalLogPublisher.removeObserver(observe)
    assert not events


def pieces(stream: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    edges = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    for start, end in pairwise(edges):
        yield stream[start:end]


def serve(store: Any = None) -> Server:
    return Server(store=store, limits=limited(maxSize=200, maxLine=60, maxErrors=12))


def feed(client: Client, stream: bytes, cuts: Sequence[int]) -> None:
    for piece in pieces(stream, cuts):
        if not client.wire.disconnecting:
            client.send(piece)
        session = client.protocol.session
        if session.state in IN_TRANSACTION:
            assert session.transaction is not None
        elif session.state is not State.CHUNK:
            assert session.transaction is None


def assertReplies(said: bytes) -> None:
    assert LINES.fullmatch(said), said
    previous = ""
    for line in said.decode("ascii").split("\r\n")[:-1]:
        assert not previous or line.startswith(previous), "the lines of a reply have one code"
        previous = line[:3] if line[3] == "-" else ""
        assert BARE.match(line) or ENHANCED.fullmatch(line), line


@settings(max_examples=400, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams, cuts, listeners)
@example(TRANSACTION + b"DATA\r\n.\r\n", [], Listener())
@example(b"x" * 13_000 + b"\r\nNOOP\r\n", [12_287], Listener())
@example(TRANSACTION + b"BDAT 0 LAST\r\nNOOP\r\n", [], Listener())
def test_replies_are_replies_and_the_same_however_the_octets_are_cut(
    stream: bytes, cuts: list[int], listener: Listener
) -> None:
    said = []
    with nothingLogged():
        for where in ([], cuts, range(1, min(len(stream), 400))):
            server = serve()
            client = server.connect(listener=listener)
            feed(client, stream, where)
            said.append(client.everything())
            owed = [len(message.recipients) for message in server.store.messages]
            if not listener.isLmtp:
                assert said[-1].count(b"id=<id>") == len(owed)
            assert (b"id=<id>" in said[-1]) == bool(owed)
            client.leave()
            assert server.factory.site.budget.memory.held == 0
    assertReplies(said[0])
    assert said[1:] == said[:1] * 2


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams, cuts)
def test_no_content_is_answered_250_before_its_commit(stream: bytes, cuts: list[int]) -> None:
    server = serve(HeldStore())
    client = server.connect()
    with nothingLogged():
        feed(client, stream, cuts)
        committed = 0
        while True:
            assert client.everything().count(b"id=<id>") == committed
            if not server.store.waiting:
                break
            server.store.commit()
            server.clock.advance(0)
            committed += 1
    assert len(server.store.stored.messages) == committed
    instant = serve()
    other = instant.connect()
    feed(other, stream, [])
    assert other.everything() == client.everything(), "waiting changes no reply"


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(streams, cuts, st.lists(st.sampled_from(["answer", "full", "empty", "tick"]), max_size=30))
def test_a_slow_directory_and_a_client_that_reads_slowly_change_no_reply(
    stream: bytes, cuts: list[int], happenings: list[str]
) -> None:
    quick = serve()
    expected = quick.connect()
    feed(expected, stream, [])
    server = serve()
    server.directory.isSlow = True
    client = server.connect()
    remaining = list(happenings)
    with nothingLogged():
        for piece in pieces(stream, cuts):
            if client.isOpen:
                client.send(piece)
            if remaining:
                happen(remaining.pop(), server, client)
        for _ in range(3000):
            happen("empty", server, client)
            happen("tick", server, client)
            if not server.directory.waiting:
                break
            happen("answer", server, client)
    assert client.everything() == expected.everything()


def happen(what: str, server: Server, client: Client) -> None:
    producer = client.wire.producer
    if what == "answer" and server.directory.waiting:
        server.directory.answer()
    elif what == "full" and producer is not None:
        producer.pauseProducing()
    elif what == "empty" and producer is not None:
        producer.resumeProducing()
    elif what == "tick":
        server.clock.advance(0)
