"""--http of a real server: what is counted, of one process and of several."""

from __future__ import annotations

import os
import re
import signal
import smtplib
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.realserver import LIMIT, Server, StartServer, runTwistd
from mailsrv.web.metrics import METRICS
from rawsmtp import RawSmtp

HTTP = ("--http", "tcp:0:interface=127.0.0.1")
OCTETS = b"Subject: Hello\r\n\r\nText\r\n"


def scrape(server: Server) -> dict[str, float]:
    """Every line of the metrics: its name with its labels, and the number."""
    port = server.portOf("HTTP")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=LIMIT) as response:
        text = response.read().decode()
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(number) for name, _, number in lines}


def until(happened: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def deliver(server: Server, number: int) -> None:
    """Messages, and for each a recipient that is refused, in sessions of their own."""
    for _ in range(number):
        with RawSmtp(server.port) as client:
            client.command("EHLO client.example")
            client.command("MAIL FROM:<a@example.org>")
            assert client.command("RCPT TO:<bob@elsewhere.test>").startswith("550 ")
            assert client.command("RCPT TO:<postmaster@example.com>").startswith("250 ")
            client.command("DATA")
            assert client.content(OCTETS).startswith("250 ")


@pytest.mark.databases
@pytest.mark.parametrize("workers", ["1", "2"])
def test_what_was_received_is_counted(startServer: StartServer, workers: str) -> None:
    server = startServer("--domain", "example.com", "--workers", workers, *HTTP)
    deliver(server, 6)
    until(lambda: scrape(server)["smtpstore_messages_stored_total"] == 6)
    until(lambda: scrape(server)["smtpstore_sessions_open"] == 0)
    seen = scrape(server)
    assert seen["smtpstore_sessions_opened_total"] == 6
    assert seen["smtpstore_messages_stored_bytes_total"] == 6 * len(OCTETS)
    assert seen['smtpstore_commands_refused_total{code="550"}'] == 6
    assert seen['smtpstore_commit_seconds_bucket{le="+Inf"}'] == 6
    assert seen['smtpstore_spool_limit_bytes{place="memory"}'] == 256 * 2**20
    assert seen["smtpstore_database_up"] == 1
    assert seen['smtpstore_queue_addresses{state="waiting"}'] == 0
    names = {re.sub(r"(_bucket|_sum|_count)?(\{.*)?$", "", name) for name in seen}
    assert {metric.name for metric in METRICS} <= names


def test_what_a_worker_counted_outlives_it(startServer: StartServer) -> None:
    server = startServer("--domain", "example.com", "--workers", "2", *HTTP)
    deliver(server, 6)
    until(lambda: scrape(server)["smtpstore_messages_stored_total"] == 6)
    pid = server.process.pid
    [victim, _] = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    os.kill(int(victim), signal.SIGKILL)
    server.waitFor("has ended: .*signal 9")
    assert scrape(server)["smtpstore_messages_stored_total"] == 6
    deliver(server, 2)
    until(lambda: scrape(server)["smtpstore_messages_stored_total"] == 8)


def test_what_waits_in_the_queue_is_seen(startServer: StartServer) -> None:
    server = startServer(
        "--domain", "example.com", "--relay-client", "127.0.0.1",
        "--smart-host", "smtp://127.0.0.1:9", *HTTP,
    )  # fmt: skip
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.sendmail("a@example.com", ["b@elsewhere.test"], OCTETS)
    until(lambda: scrape(server)['smtpstore_relay_attempts_total{outcome="deferred"}'] == 1)
    until(lambda: scrape(server)['smtpstore_queue_addresses{state="waiting"}'] == 1)
    assert scrape(server)["smtpstore_queue_oldest_seconds"] > 0


def test_without_a_database_there_are_metrics_all_the_same(startServer: StartServer) -> None:
    server = startServer("--db-timeout", "2", *HTTP, url="mysql://me:x@127.0.0.1:9/mail")
    seen = scrape(server)
    assert seen["smtpstore_database_up"] == 0
    assert "smtpstore_sessions_open" in seen


def test_a_scrape_is_no_news(startServer: StartServer) -> None:
    server = startServer(*HTTP)
    scrape(server)
    server.stop()
    assert not any("GET /metrics" in line for line in server.log)
    with pytest.raises(OSError, match="refused"):
        scrape(server)


def test_its_port_in_use_ends_in_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = runTwistd(
            tmp_path, "-n", "--pidfile=", "smtpstore",
            "--port", "tcp:0:interface=127.0.0.1", "--http", str(port),
        )  # fmt: skip
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; " in line


def test_without_the_library_it_ends_in_one_line(tmp_path: Path) -> None:
    missing = "import sys; sys.modules['prometheus_client'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(missing)
    done = runTwistd(
        tmp_path, "-n", "--pidfile=", "smtpstore",
        "--port", "tcp:0:interface=127.0.0.1", "--http", "0",
        env={"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}"},
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "smtpstore: --http needs prometheus-client: pip install 'smtpstore[web]'"
    ]
