"""The site: GET /metrics over a real connection, and nothing else."""

from __future__ import annotations

import socket
from collections.abc import Callable
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher

from mailsrv.web.metrics import Values
from mailsrv.web.site import CONNECTIONS, MetricsSite

LIMIT = 20.0


class Running:
    """A site on a port of its own; `values` is what it is told, an exception that asking fails."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        clock: Any = reactor
        self.values: list[Values] | Exception = [{"smtpstore_sessions_open": 3}]
        self.hold: Deferred[None] | None = None
        self.asked = 0
        self.site = MetricsSite(self._ask, clock)
        self._listening = clock.listenTCP(0, self.site, interface="127.0.0.1")
        self.port: int = self._listening.getHost().port

    async def _ask(self) -> list[Values]:
        self.asked += 1
        if self.hold is not None:
            await self.hold
        if isinstance(self.values, Exception):
            raise self.values
        return self.values

    async def __aenter__(self) -> Running:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._listening.stopListening()
        self.site.close()
        while self.site.protocols:
            await deferToThread(lambda: None)

    def ask(
        self, path: str = "/metrics", method: str = "GET", **more: Any
    ) -> Deferred[tuple[HTTPResponse, str]]:
        def talk() -> tuple[HTTPResponse, str]:
            connection = HTTPConnection("127.0.0.1", self.port, timeout=LIMIT)
            connection.request(method, path, **more)
            response = connection.getresponse()
            text = response.read().decode()
            connection.close()
            return response, text

        return deferToThread(talk)


@pytest_twisted.ensureDeferred
async def test_the_metrics_are_there_each_with_help_and_type() -> None:
    async with Running() as running:
        response, text = await running.ask()
    assert response.status == 200
    assert (response.getheader("Content-Type") or "").startswith("text/plain; version=0.0.4")
    assert text.startswith(
        "# HELP smtpstore_sessions_open Clients that are connected now.\n"
        "# TYPE smtpstore_sessions_open gauge\n"
        "smtpstore_sessions_open 3.0\n"
    )
    assert "# TYPE process_resident_memory_bytes gauge" in text
    assert "python_info" not in text  # which the registry of the whole process has


@pytest_twisted.ensureDeferred
async def test_who_asks_for_openmetrics_gets_it() -> None:
    async with Running() as running:
        response, text = await running.ask(
            headers={"Accept": "application/openmetrics-text; version=1.0.0"}
        )
    assert (response.getheader("Content-Type") or "").startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


@pytest_twisted.ensureDeferred
async def test_head_has_no_body() -> None:
    async with Running() as running:
        response, text = await running.ask(method="HEAD")
    assert (response.status, text) == (200, "")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics/x", "/favicon.ico", "/%00", "//"])
@pytest_twisted.ensureDeferred
async def test_nothing_else_is_there(path: str) -> None:
    async with Running() as running:
        response, _ = await running.ask(path)
        assert running.asked == 0
    assert response.status == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
@pytest_twisted.ensureDeferred
async def test_no_other_method_is_there(method: str) -> None:
    async with Running() as running:
        body = b"x" * 200_000 if method in ("POST", "PUT") else None
        response, _ = await running.ask(method=method, body=body)
        assert running.asked == 0
    assert response.status == 405


@pytest_twisted.ensureDeferred
async def test_a_fault_of_ours_shows_nothing_of_itself() -> None:
    logged: list[Any] = []
    globalLogPublisher.addObserver(logged.append)
    try:
        async with Running() as running:
            running.values = RuntimeError("secret")
            response, text = await running.ask()
    finally:
        globalLogPublisher.removeObserver(logged.append)
    assert (response.status, text) == (500, "")
    assert [str(line["log_failure"].value) for line in logged if "log_failure" in line] == [
        "secret"
    ]


@pytest_twisted.ensureDeferred
async def test_who_goes_before_the_answer_is_not_answered() -> None:
    async with Running() as running:
        gone: Deferred[None] = Deferred()
        running.hold = Deferred(lambda _: gone.callback(None))
        client = await connect(running, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        while not running.asked:
            await deferToThread(lambda: None)
        client.close()
        await gone


@pytest_twisted.ensureDeferred
async def test_only_so_many_may_be_connected() -> None:
    async with Running() as running:
        clients = [await connect(running) for _ in range(CONNECTIONS)]
        while len(running.site.protocols) < CONNECTIONS:
            await deferToThread(lambda: None)
        further = await connect(running)
        assert await deferToThread(further.recv, 1) == b""
        further.close()
        for client in clients:
            client.close()
        while running.site.protocols:
            await deferToThread(lambda: None)
        response, _ = await running.ask()
        assert response.status == 200


@pytest.mark.parametrize(
    "octets",
    [
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET /metrics HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
    ],
    ids=["long line", "many fields"],
)
@pytest_twisted.ensureDeferred
async def test_what_is_too_much_ends_the_connection(octets: bytes) -> None:
    async with Running() as running:
        client = await connect(running)

        def talk() -> bytes:
            said = b""
            try:
                client.sendall(octets)
                while piece := client.recv(65_536):
                    said += piece
            except ConnectionError:
                pass
            return said

        said = await deferToThread(talk)
        client.close()
        assert not said or said.startswith((b"HTTP/1.1 400", b"HTTP/1.1 414", b"HTTP/1.1 431"))
        assert running.asked == 0


async def connect(running: Running, octets: bytes = b"") -> socket.socket:
    """A bare connection."""

    def talk() -> socket.socket:
        client = socket.create_connection(("127.0.0.1", running.port), timeout=LIMIT)
        client.sendall(octets)
        return client

    made: Callable[[], socket.socket] = talk
    return await deferToThread(made)
