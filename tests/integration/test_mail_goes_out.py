"""Mail goes out: forwarding, relaying, reports and events, between real servers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.server
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from integration.fakehost import FakeHost
from integration.realserver import LIMIT, Server, StartServer, environment
from mailsrv.server.selfsigned import selfSigned
from mailsrv.store.dialect import parseUrl
from rawsmtp import RawSmtp

OCTETS = b"Subject: Out\r\n\r\n..\r\n.\r\n.dot\r\n\x80\xff no ASCII\r\nthe end without a line's end"
WAITING = "SELECT COUNT(*) FROM queue WHERE state = 'waiting'"
_CLI = "from mailsrv.cli import main; main()"


def cli(server: Server, *args: str) -> str:
    """The command line, on the server's database."""
    done = subprocess.run(
        [sys.executable, "-c", _CLI, *args],
        env=environment(SMTPSTORE_DB=server.url),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(happened: Callable[[], Any], limit: float = LIMIT) -> Any:
    deadline = time.monotonic() + limit
    while not (result := happened()):
        assert time.monotonic() < deadline, "it has not happened"
        time.sleep(0.02)
    return result


def received(sink: Server) -> list[tuple[str, str, bytes]]:
    """Sender, recipient and octets of each message that a sink has."""
    return sink.rows(
        "SELECT m.sender, r.address, m.data FROM messages m"
        " JOIN recipients r ON r.message_id = m.id ORDER BY r.address"
    )


@pytest.fixture
def sink(startServer: StartServer) -> Server:
    return startServer()


def startRelay(startServer: StartServer, smartHost: str, *args: str, **more: Any) -> Server:
    return startServer("--domain", "example.com", *args, "--smart-host", smartHost, **more)


def startForwarder(startServer: StartServer, smartHost: str, **more: Any) -> Server:
    """A relay with a user whose mail goes to far@elsewhere.test."""
    workers = more.pop("workers", 1)
    relay = startRelay(startServer, smartHost, "--workers", str(workers), **more)
    cli(relay, "user", "add", "away@example.com", "--forward-to", "far@elsewhere.test")
    return relay


def put(server: Server, *recipients: str, sender: str = "a@example.org", octets: bytes = OCTETS):
    """Hand a message in; the replies to RCPT."""
    with RawSmtp(server.port) as client:
        client.command("EHLO client.example")
        assert client.command(f"MAIL FROM:<{sender}>").startswith("250 ")
        replies = [client.command(f"RCPT TO:<{each}>") for each in recipients]
        client.command("DATA")
        assert client.content(octets).startswith("250 ")
    return replies


# Forwarding and relaying


@pytest.mark.databases
def test_what_a_251_says_comes_true(startServer: StartServer, sink: Server) -> None:
    relay = startForwarder(startServer, f"smtp://{sink.address}")
    relay.waitFor(f"Mail for elsewhere goes to {sink.address}")
    [reply] = put(relay, "away@example.com")
    assert reply.startswith("251 2.1.5 ")
    assert "<far@elsewhere.test>" in reply
    [(sender, recipient, octets)] = until(lambda: received(sink))
    assert (sender, recipient) == ("a@example.org", "far@elsewhere.test")
    assert octets.endswith(OCTETS + b"\r\n")
    trace = octets[: -len(OCTETS) - 2]
    assert trace.startswith(b"Received: ")
    assert b"Return-Path" not in trace
    relay.waitFor(r"relayed id=\w{26} to='far@elsewhere.test' host=127\.0\.0\.1 .*'250 2\.0\.0 OK")


def test_members_of_a_group_elsewhere_get_it_and_those_here_too(
    startServer: StartServer, sink: Server
) -> None:
    relay = startRelay(startServer, f"smtp://{sink.address}")
    cli(relay, "user", "add", "bob@example.com")
    cli(relay, "group", "add", "team@example.com", "bob@example.com", "x@a.test", "y@b.test")
    assert put(relay, "team@example.com")[0].startswith("250 ")
    until(lambda: len(received(sink)) == 2)
    assert [each[1] for each in received(sink)] == ["x@a.test", "y@b.test"]
    assert relay.rows("SELECT COUNT(*) FROM mailbox WHERE address = 'bob@example.com'") == [(1,)]


def test_who_may_relay_may(startServer: StartServer, sink: Server) -> None:
    relay = startRelay(startServer, f"smtp://{sink.address}", "--relay-client", "127.0.0.1")
    assert put(relay, "any@elsewhere.test")[0].startswith("250 ")
    until(lambda: received(sink))


def test_it_goes_out_in_tls_with_a_login_to_a_host_that_is_who_it_says(
    startServer: StartServer, tmp_path: Path
) -> None:
    certificate, key = makeCertificate(tmp_path)
    sink = startServer(
        "--domain", "far.test", "--tls-cert", str(certificate), "--tls-key", str(key)
    )
    sink.addUser("relay@far.test", "pass word%")
    smartHost = f"smtp://relay%40far.test:pass%20word%25@localhost:{sink.port}"
    trust = {"SSL_CERT_FILE": str(certificate), "SMTPSTORE_SMART_HOST": smartHost}
    relay = startServer("--domain", "example.com", env=trust)
    cli(relay, "user", "add", "away@example.com", "--forward-to", "relay@far.test")
    put(relay, "away@example.com")
    until(lambda: received(sink))
    assert sink.rows("SELECT protocol FROM messages") == [("ESMTPSA",)]
    assert "pass" not in "\n".join(relay.log)


def makeCertificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for localhost that is its own authority, and its key."""
    paths = directory / "cert.pem", directory / "key.pem"
    for path, octets in zip(paths, selfSigned("localhost"), strict=True):
        path.write_bytes(octets)
    return paths


# What is wrong with a next hop


def test_a_wrong_password_fails_no_mail(startServer: StartServer, tmp_path: Path) -> None:
    certificate, key = makeCertificate(tmp_path)
    sink = startServer("--tls-cert", str(certificate), "--tls-key", str(key))
    relay = startForwarder(
        startServer,
        f"smtp://relay:wrongword@localhost:{sink.port}",
        env={"SSL_CERT_FILE": str(certificate)},
    )
    put(relay, "away@example.com")
    relay.waitFor("deferred id=.*The smart host does not let us send: 535 5.7.8")
    assert relay.rows(WAITING) == [(1,)]
    assert received(sink) == []
    assert "wrongword" not in "\n".join(relay.log)
    assert "wrongword" not in cli(relay, "queue", "list", "--json")


def test_a_certificate_that_nobody_trusts_keeps_the_mail_here(startServer: StartServer) -> None:
    sink = startServer("--tls", "auto")
    relay = startForwarder(startServer, f"smtp://localhost:{sink.port}")
    put(relay, "away@example.com")
    relay.waitFor("deferred id=.*The TLS handshake failed")
    assert received(sink) == []


def test_no_password_goes_where_starttls_was_stripped(startServer: StartServer) -> None:
    host = FakeHost({"EHLO": "250-fake.example\r\n250 AUTH PLAIN LOGIN"})
    relay = startForwarder(startServer, f"smtp://relay:password@127.0.0.1:{host.port}")
    put(relay, "away@example.com")
    relay.waitFor("deferred id=.*TLS is required, and the server does not offer it")
    host.close()
    assert {line.split(" ")[0] for line in host.heard} <= {"EHLO", "QUIT"}
    assert host.heard


def test_what_comes_back_to_this_host_fails_and_its_sender_is_told(
    startServer: StartServer,
) -> None:
    server = startServer("--domain", "example.com", "--relay-client", "127.0.0.1")
    cli(server, "user", "add", "bob@example.com")
    put(server, "x@[127.0.0.1]", sender="bob@example.com")
    server.waitFor("failed id=.*554 5.4.6")
    until(lambda: server.rows("SELECT 1 FROM messages WHERE sender = ''"))


def test_what_the_next_hop_refuses_for_ever_is_reported_to_the_sender(
    startServer: StartServer,
) -> None:
    there = startServer("--domain", "elsewhere.test")
    relay = startForwarder(startServer, f"smtp://{there.address}")
    cli(relay, "user", "add", "bob@example.com")
    put(relay, "away@example.com", sender="bob@example.com")
    [(octets,)] = until(
        lambda: relay.rows(
            "SELECT m.data FROM messages m JOIN recipients r ON r.message_id = m.id"
            " JOIN users u ON u.id = r.user_id"
            " WHERE m.sender = '' AND u.address = 'bob@example.com'"
        )
    )
    assert b"multipart/report" in octets
    assert b"\r\nAction: failed\r\n" in octets
    assert b"\r\nStatus: 5.1.1\r\n" in octets
    assert relay.rows("SELECT state FROM queue") == [("failed",)]
    relay.waitFor("failed id=.* to='far@elsewhere.test' .*550 5.1.1")


def test_what_was_put_off_goes_out_when_it_is_told_to(startServer: StartServer) -> None:
    answers = {"MAIL": "451 4.3.0 later"}
    host = FakeHost(answers)
    relay = startForwarder(startServer, f"smtp://127.0.0.1:{host.port}")
    put(relay, "away@example.com")
    relay.waitFor("deferred id=.*451 4.3.0 later")
    answers["MAIL"] = "550 5.7.1 now never"
    assert "1 will be tried again" in cli(relay, "queue", "retry", "--all")
    relay.waitFor("failed id=.*550 5.7.1 now never")
    host.close()


def test_a_stop_does_not_wait_for_a_next_hop_and_gives_back_what_was_claimed(
    startServer: StartServer,
) -> None:
    host = FakeHost({"MAIL": None})
    relay = startForwarder(startServer, f"smtp://127.0.0.1:{host.port}")
    put(relay, "away@example.com")
    until(lambda: any(line.startswith("MAIL") for line in host.heard))
    began = time.monotonic()
    relay.stop()
    assert time.monotonic() - began < 12
    assert relay.rows("SELECT state, attempts, claimed_until FROM queue") == [("waiting", 0, None)]
    host.close()


def test_what_workers_receive_is_sent_at_once(startServer: StartServer, sink: Server) -> None:
    """The parent looks by itself each five seconds; told of each it needs no time at all."""
    relay = startForwarder(startServer, f"smtp://{sink.address}", workers=2)
    began = time.monotonic()
    for number in range(1, 7):
        put(relay, "away@example.com")
        until(lambda number=number: len(received(sink)) == number)
    assert time.monotonic() - began < 15


def test_of_several_processes_only_the_parent_sends(startServer: StartServer) -> None:
    host = FakeHost({"MAIL": None})
    relay = startForwarder(startServer, f"smtp://127.0.0.1:{host.port}", workers=2)
    for _ in range(4):
        put(relay, "away@example.com")
    ask = "SELECT DISTINCT claimed_by FROM queue WHERE claimed_by IS NOT NULL"
    held = "SELECT COUNT(*) FROM queue WHERE claimed_by IS NOT NULL"
    until(lambda: relay.rows(held) == [(4,)])
    owners = {claim.partition("-")[0] for (claim,) in relay.rows(ask)}
    assert owners == {str(relay.process.pid)}
    relay.stop()
    assert relay.rows(held) == [(0,)]
    host.close()


# Never an open relay


TRICKS = [
    "victim@elsewhere.test",
    "@example.com:victim@elsewhere.test",
    "@example.com,@elsewhere.test:victim@elsewhere.test",
    "victim%elsewhere.test@example.com",
    "victim%elsewhere.test",
    '"victim@elsewhere.test"@example.com',
    '"victim@elsewhere.test"',
    '"victim%elsewhere.test"@example.com',
    "victim@elsewhere.test@example.com",
    "victim@example.com@elsewhere.test",
    "victim%elsewhere.test@[127.0.0.1]",
    "elsewhere.test!victim",
    "elsewhere.test!victim@example.com",
    "example.com!elsewhere.test!victim",
    "example.com!victim@elsewhere.test",
    "@example.com:elsewhere.test!victim",
    "postmaster@elsewhere.test",
    "abuse@elsewhere.test",
    "victim@[127.0.0.1]",
    "victim@[192.0.2.1]",
    "victim@[IPv6:::1]",
    "victim@127.0.0.1",
    "victim@localhost",
    "victim@",
    "victim",
    "@elsewhere.test",
    "victim@elsewhere.test.",
    "victim@.example.com",
    "victim@sub.example.com",
    "victim@notexample.com",
    "victim@example.com.elsewhere.test",
    "victim@elsewhere.test\\0@example.com",
    "victim@elsewhere.test,bob@example.com",
    "victim@elsewhere.test bob@example.com",
    "<victim@elsewhere.test>",
    "bob@example.com><victim@elsewhere.test",
    "~victim@elsewhere.test",
    "|mail victim@elsewhere.test",
    "victim@elsewhere.test (bob@example.com)",
    "bob+victim@elsewhere.test@example.com",
]
SENDERS = ["", "spam@elsewhere.test", "bob@example.com", "postmaster@example.com", "a@[127.0.0.1]"]


def test_nobody_makes_it_an_open_relay(startServer: StartServer) -> None:
    server = startRelay(startServer, "smtp://127.0.0.1:9")
    cli(server, "user", "add", "bob@example.com")
    for sender in SENDERS:
        for trick in TRICKS:
            with RawSmtp(server.port) as client:
                client.command("EHLO example.com")
                assert client.command(f"MAIL FROM:<{sender}>").startswith("250 ")
                reply = client.command(f"RCPT TO:<{trick}>")
                assert reply[:4] in ("550 ", "501 ", "555 "), (sender, trick)
                assert client.command("DATA").startswith("503 "), (sender, trick)
        put(server, "bob@example.com", sender=sender)
    assert server.rows("SELECT COUNT(*) FROM queue") == [(0,)]
    assert {each[1] for each in received(server)} == {"bob@example.com"}


# Kills


def test_a_server_killed_while_it_relays_loses_nothing(
    startServer: StartServer, sink: Server
) -> None:
    first = startForwarder(startServer, "smtp://127.0.0.1:9")
    bodies = {b"Subject: %d\r\n\r\nhello\r\n" % number for number in range(200)}
    with RawSmtp(first.port) as client:
        client.command("EHLO client.example")
        for body in bodies:
            client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<away@example.com>\r\nDATA\r\n")
            assert [client.reply()[:3] for _ in range(3)] == ["250", "251", "354"]
            assert client.content(body).startswith("250 ")
    first.stop()
    assert first.rows(WAITING) == [(200,)]
    due(first)
    second = startRelay(startServer, f"smtp://{sink.address}", url=first.url)
    until(lambda: len(received(sink)) > 20)
    second.process.kill()
    second.process.wait(LIMIT)
    assert second.rows(WAITING)[0][0] > 0
    due(first)
    startRelay(startServer, f"smtp://{sink.address}", url=first.url)
    until(lambda: first.rows(WAITING) == [(0,)])
    arrived = [b"Subject" + each[2].partition(b"\r\nSubject")[2] for each in received(sink)]
    assert set(arrived) == bodies
    assert len(arrived) <= 200 + 50  # twice only where the answer to the final dot was lost


def due(server: Server) -> None:
    """Time passes: what waits is due, and claims have lapsed."""
    connection = parseUrl(server.url).connect()
    long = "2000-01-01 00:00:00.000000"
    connection.cursor().execute(
        "UPDATE queue SET next_attempt_at = ?, claimed_until = ? WHERE state = 'waiting'",
        (long, long),
    )
    connection.commit()
    connection.close()


# Events


class Application(http.server.BaseHTTPRequestHandler):
    """Fails the first request, and takes the others."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        requests: queue.Queue[Any] = self.server.requests  # type: ignore[attr-defined]
        self.send_response(200 if requests.qsize() else 503)
        requests.put((self.headers, body))
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def application() -> Iterator[http.server.HTTPServer]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Application)
    server.requests = queue.Queue()  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_application_is_told_of_each_message(
    startServer: StartServer, application: Any, workers: str
) -> None:
    key = b"k" * 24
    url = f"http://127.0.0.1:{application.server_port}/mail"
    server = startServer(
        "--webhook",
        url,
        "--workers",
        workers,
        env={"SMTPSTORE_WEBHOOK_SECRET": "whsec_" + base64.b64encode(key).decode()},
    )
    server.waitFor(f"Events go to {url}")
    put(server, "any@example.org", octets=b"Subject: Hello\r\n\r\nText\r\n")
    until(lambda: application.requests.qsize() == 2)  # refused, and once more
    told = [application.requests.get() for _ in range(2)]
    [(id,)] = server.rows("SELECT id FROM messages")
    for headers, body in told:
        event = json.loads(body)
        assert event["id"] == headers["webhook-id"] == id
        assert event["subject"] == "Hello"
        assert [each["address"] for each in event["envelope"]["recipients"]] == ["any@example.org"]
        signed = f"{id}.{headers['webhook-timestamp']}.".encode() + body
        digest = base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
        assert headers["webhook-signature"] == f"v1,{digest}"
    until(lambda: server.rows("SELECT state FROM events") == [("delivered",)])
