"""A relay on a database, where its mail goes, and what was logged as a failure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_twisted
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure

from relay.relayworld import Sink, World


@pytest.fixture
def caught() -> Iterator[list[Failure]]:
    """The failures that were logged during the test."""
    failures: list[Failure] = []

    def observe(event: LogEvent) -> None:
        if "log_failure" in event:
            failures.append(event["log_failure"])

    globalLogPublisher.addObserver(observe)
    yield failures
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLite, unless the test is run on MariaDB too."""
    if getattr(request, "param", "sqlite") == "mariadb":
        return str(request.getfixturevalue("database").url)
    return f"sqlite:{tmp_path}/mail.db"


@pytest_twisted.async_yield_fixture
async def world(url: str) -> AsyncIterator[World]:
    world = World(url)
    yield world
    await world.close()


@pytest_twisted.async_yield_fixture
async def sink(world: World) -> AsyncIterator[Sink]:
    """Where the world's mail goes."""
    sink = Sink()
    world.port = sink.port
    yield sink
    await sink.close()
