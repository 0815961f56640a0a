"""The pytest fixture `smtpserver`: a server that is there, and what it received.

pytest finds it by itself where smtpstore is installed. It starts a process, once in a run and only
where a test asks for it; no reactor runs in the tests, so it gets along with every plugin.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from mailsrv.testing.process import ServerProcess


@pytest.fixture(scope="session")
def smtpserverProcess() -> Iterator[ServerProcess]:
    """The process behind `smtpserver`, for all tests of a run."""
    from mailsrv.testing.process import ServerProcess

    with ServerProcess() as server:
        yield server


@pytest.fixture
def smtpserver(smtpserverProcess: ServerProcess) -> ServerProcess:
    """A `mailsrv.testing.ServerProcess` that takes mail for everybody, with an empty inbox."""
    smtpserverProcess.forget()
    return smtpserverProcess
