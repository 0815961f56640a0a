"""What is logged as a failure is either expected by a test, or fails it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python.failure import Failure


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
