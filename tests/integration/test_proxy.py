"""Behind a real HAProxy: the client's own address counts, in clear, behind STARTTLS, in TLS."""

from __future__ import annotations

import smtplib
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from integration.realserver import LIMIT, Server, StartServer
from integration.test_tls import trusting

Tool = Callable[[str], str]
StartProxy = Callable[[str, int], int]

CLIENT = "127.0.0.2"  # HAProxy itself connects from 127.0.0.1
TEXT = b"Subject: Hello\r\n\r\nA line.\r\n"
PROXIED = (
    *("--port", "haproxy:tcp:0:interface=127.0.0.1", "--port", "tcp:0:interface=127.0.0.1"),
    *("--tls", "auto", "--smtps", "haproxy:tcp:0:interface=127.0.0.1"),
)
VERSIONS = pytest.mark.parametrize("version", ["send-proxy", "send-proxy-v2"])


def freePort() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def startProxy(tmp_path: Path, tool: Tool) -> Iterator[StartProxy]:
    """Start an HAProxy in front of a port: `startProxy("send-proxy", 2525)`, the port it has."""
    running: list[subprocess.Popen[bytes]] = []

    def start(version: str, port: int) -> int:
        front = freePort()
        config = tmp_path / f"haproxy{len(running)}.cfg"
        config.write_text(
            "defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
            f"listen smtp\n bind 127.0.0.1:{front}\n server one 127.0.0.1:{port} {version}\n"
        )
        running.append(subprocess.Popen([tool("haproxy"), "-q", "-db", "-f", str(config)]))
        while True:  # it has no way to say that it listens
            assert running[-1].poll() is None
            try:
                socket.create_connection(("127.0.0.1", front), LIMIT).close()
            except ConnectionRefusedError:
                continue
            return front

    yield start
    for process in running:
        process.terminate()
        process.wait(LIMIT)


def connect(port: int) -> smtplib.SMTP:
    return smtplib.SMTP("127.0.0.1", port, timeout=LIMIT, source_address=(CLIENT, 0))


def peers(server: Server) -> list[str]:
    return [peer for (peer,) in server.rows("SELECT peer FROM messages")]


@VERSIONS
def test_the_client_is_known_by_its_own_address(
    startServer: StartServer, startProxy: StartProxy, version: str
) -> None:
    server = startServer(*PROXIED)
    with connect(startProxy(version, server.port)) as client:
        client.sendmail("a@example.com", "b@example.org", TEXT)
        client.starttls(context=trusting())
        client.sendmail("a@example.com", "b@example.org", TEXT)
    port = startProxy(version, server.portOf("SMTPS"))
    with smtplib.SMTP_SSL(
        "127.0.0.1", port, context=trusting(), timeout=LIMIT, source_address=(CLIENT, 0)
    ) as secure:
        secure.sendmail("a@example.com", "b@example.org", TEXT)
    assert peers(server) == [CLIENT] * 3
    protocols = server.rows("SELECT protocol FROM messages ORDER BY protocol")
    assert protocols == [("ESMTP",), ("ESMTPS",), ("ESMTPS",)]
    traces = server.rows("SELECT trace FROM messages")
    assert all(f"([{CLIENT}])" in str(trace) for (trace,) in traces)
    server.waitFor(f"stored id=.* peer={CLIENT} ")


@VERSIONS
def test_limits_count_clients_and_not_the_proxy(
    startServer: StartServer, startProxy: StartProxy, version: str
) -> None:
    server = startServer(*PROXIED, "--max-connections-per-client", "1")
    port = startProxy(version, server.port)
    with connect(port), smtplib.SMTP("127.0.0.1", port, timeout=LIMIT):
        with pytest.raises(smtplib.SMTPConnectError) as refused:
            connect(port)
        assert refused.value.smtp_code == 421


@VERSIONS
def test_policies_judge_the_client(
    startServer: StartServer, startProxy: StartProxy, version: str
) -> None:
    server = startServer(*PROXIED, "--domain", "example.com", "--relay-client", CLIENT)
    port = startProxy(version, server.port)
    with connect(port) as client:
        client.sendmail("a@example.com", "b@example.org", TEXT)
    with (
        smtplib.SMTP("127.0.0.1", port, timeout=LIMIT) as stranger,
        pytest.raises(smtplib.SMTPRecipientsRefused),
    ):
        stranger.sendmail("a@example.com", "b@example.org", TEXT)


def test_what_comes_without_a_header_is_closed_unheard(startServer: StartServer) -> None:
    server = startServer(*PROXIED)
    for name in ("SMTP", "SMTPS"):
        with socket.create_connection(("127.0.0.1", server.portOf(name)), LIMIT) as connection:
            connection.sendall(b"EHLO c\r\nMAIL FROM:<>\r\n")
            with suppress(ConnectionResetError):
                assert connection.recv(100) == b""


def test_a_health_check_leaves_nothing_in_the_log(
    startServer: StartServer, startProxy: StartProxy
) -> None:
    """HAProxy connects, says the header with LOCAL, reads the greeting and goes."""
    server = startServer(*PROXIED)
    front = startProxy("send-proxy-v2 check inter 50ms", server.port)
    for _ in range(5):
        with connect(front) as client:
            client.noop()
    assert not [line for line in server.log if "refused" in line]


def test_lmtp_and_submission_take_the_header_too(
    startServer: StartServer, startProxy: StartProxy
) -> None:
    server = startServer(
        *("--port", "", "--lmtp", "haproxy:tcp:0:interface=127.0.0.1", "--tls", "auto"),
        *("--submission", "haproxy:tcp:0:interface=127.0.0.1"),
    )
    front = startProxy("send-proxy-v2", server.portOf("LMTP"))
    with smtplib.LMTP("127.0.0.1", front, source_address=(CLIENT, 0), timeout=LIMIT) as client:
        client.sendmail("a@example.com", "b@example.org", TEXT)
    with connect(startProxy("send-proxy", server.portOf("Submission"))) as client:
        client.ehlo()
        assert client.mail("a@example.com")[0] == 530
    assert peers(server) == [CLIENT]
