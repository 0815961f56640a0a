"""What a process gives its server, or says in one line why not."""

from __future__ import annotations

import errno
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.base import ReactorBase
from twisted.internet.defer import Deferred, fail
from twisted.internet.error import CannotListenError, ReactorNotRunning
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.python import log

from mailsrv import process
from mailsrv.process import (
    StartError,
    callWithoutLogContext,
    endLater,
    listen,
    openDatabase,
    raiseFileLimit,
    rightsOf,
    runAs,
    stopOnce,
    tryDirectory,
    useMonotonicClock,
)
from mailsrv.store.dialect import SqliteDialect

# The clock


class FakeReactor(ReactorBase):
    def installWaker(self) -> None:
        """None is needed: it never runs."""


def test_a_fresh_reactor_gets_the_monotonic_clock() -> None:
    reactor = FakeReactor()
    useMonotonicClock(reactor)
    before = time.monotonic()
    assert before <= reactor.callLater(0, print).getTime() <= time.monotonic()


def test_a_reactor_whose_timers_are_set_already_keeps_its_clock() -> None:
    reactor = FakeReactor()
    reactor.callLater(1, print)
    useMonotonicClock(reactor)
    assert abs(reactor.seconds() - time.time()) < 60


def test_a_reactor_with_a_clock_of_its_own_keeps_it() -> None:
    reactor = MemoryReactorClock()
    useMonotonicClock(reactor)
    assert reactor.seconds() == 0


def test_a_reactor_may_be_stopped_twice_and_one_that_does_not_run_still_says_so() -> None:
    reactor = FakeReactor()
    stopOnce(reactor)
    with pytest.raises(ReactorNotRunning):
        reactor.stop()
    reactor.startRunning()
    reactor.stop()
    reactor.stop()


# The log


class Ready:
    """What the reactor calls when it can be read."""

    def logPrefix(self) -> str:
        return "Ready,7,127.0.0.1"

    def read(self, octets: int) -> int:
        return 1000 // octets

    def interrupted(self) -> None:
        raise KeyboardInterrupt


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(log, "callWithLogger", log.callWithLogger)
    callWithoutLogContext()
    return log.callWithLogger  # as the reactor finds it


def test_what_is_ready_is_called_as_ever(called: Callable[..., Any]) -> None:
    ready = Ready()
    assert called(ready, ready.read, octets=10) == 100
    with pytest.raises(KeyboardInterrupt):
        called(ready, ready.interrupted)


def test_an_error_that_gets_out_is_logged_with_whose_it_is(called: Callable[..., Any]) -> None:
    ready, events = Ready(), list[LogEvent]()
    globalLogPublisher.addObserver(events.append)  # type: ignore[arg-type]
    try:
        assert called(ready, ready.read, 0) is None
    finally:
        globalLogPublisher.removeObserver(events.append)  # type: ignore[arg-type]
    [event] = events
    assert event["log_system"] == "Ready,7,127.0.0.1"
    assert "return 1000 // octets" in event["failure"].getTraceback()


# Memory

FAULTS = """
import resource
from mailsrv.process import keepFreedMemory

def faults() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for size in range(1 << 20, 4 << 20, 1 << 16):
        bytes(size), bytearray(size)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

faults()
given = faults()
keepFreedMemory()
faults()
print(given, faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_memory_that_large_mail_has_freed_is_used_again_and_not_asked_for_anew() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAULTS], capture_output=True, text=True, timeout=60, check=True
    )
    given, kept = map(int, done.stdout.split())
    assert kept < 1000
    assert kept * 10 < given


# Users


def test_without_a_user_it_is_called_as_it_is() -> None:
    called: list[int] = []
    for uid, gid in ((None, None), (os.geteuid(), None), (os.geteuid(), os.getegid())):
        runAs(rightsOf(uid, gid), lambda: called.append(os.geteuid()))
    assert called == [os.geteuid()] * 3


def test_only_root_may_become_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(StartError, match="only root may run it as another user"):
        rightsOf(1001, None)


# Files


def test_a_database_that_the_server_may_not_upgrade_is_only_checked(tmp_path: Path) -> None:
    class Strict(SqliteDialect):
        upgradesItself = False

    path = tmp_path / "mail.db"
    path.touch()
    with pytest.raises(StartError, match=r"mail\.db holds no tables yet; run: smtpstore init"):
        openDatabase(Strict(path))
    assert path.read_bytes() == b""
    openDatabase(SqliteDialect(path))
    assert openDatabase(Strict(path)) == (True, [])


def test_a_database_elsewhere_may_be_down_at_the_start(tmp_path: Path) -> None:
    class Elsewhere(SqliteDialect):
        upgradesItself = False

    isThere, [warning] = openDatabase(Elsewhere(tmp_path / "mail.db"))
    assert not isThere
    assert "cannot be opened" in warning
    assert "421" in warning


def test_a_spool_that_can_be_written_is_left_empty(tmp_path: Path) -> None:
    tryDirectory(str(tmp_path))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(StartError, match="give a directory that can be written"):
        tryDirectory(str(tmp_path / "none"))


LIMITED = """
import resource, sys
from mailsrv.process import raiseFileLimit
soft, hard = map(int, sys.argv[1:3])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
print(raiseFileLimit(int(sys.argv[3])))
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "wanted", "left"),
    [(100, 4000, 2100, "2100 4000"), (100, 4000, 50, "100 4000")],
    ids=["raised", "enough as it is"],
)
def test_the_limit_of_open_files_is_raised_where_it_must(
    soft: int, hard: int, wanted: int, left: str
) -> None:
    numbers = map(str, (soft, hard, wanted))
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *numbers],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        timeout=20,
        check=True,
    )
    assert done.stdout == f"None\n{left}\n"


class Kernel:
    """A file limit that only root may raise beyond its hard part."""

    RLIMIT_NOFILE = resource.RLIMIT_NOFILE
    RLIM_INFINITY = resource.RLIM_INFINITY

    def __init__(self, soft: int, hard: int, isRoot: bool) -> None:
        self.limits = (soft, hard)
        self.isRoot = isRoot

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        if limits[1] > self.limits[1] and not self.isRoot:
            raise ValueError("not allowed to raise maximum limit")
        self.limits = limits


@pytest.mark.parametrize(
    ("kernel", "left", "says"),
    [
        (Kernel(100, 400, isRoot=True), (2100, 2100), None),
        (Kernel(100, 400, isRoot=False), (400, 400), "Only 400 files may be open, 2100 are"),
        (Kernel(100, resource.RLIM_INFINITY, isRoot=False), (2100, -1), None),
        (Kernel(resource.RLIM_INFINITY, resource.RLIM_INFINITY, isRoot=False), (-1, -1), None),
    ],
    ids=["root", "hard limit", "no hard limit", "no limit"],
)
def test_where_the_limit_cannot_be_raised_enough_it_warns_in_one_line(
    monkeypatch: pytest.MonkeyPatch, kernel: Kernel, left: tuple[int, int], says: str | None
) -> None:
    monkeypatch.setattr(process, "resource", kernel)
    warning = raiseFileLimit(2100)
    assert kernel.limits == left
    assert warning is None if says is None else (warning or "").startswith(says)


# Ports


def complaint(outcome: Callable[[], Deferred[Any]], monkeypatch: pytest.MonkeyPatch) -> str:
    """What `listen` says of an endpoint whose `listen` does `outcome`."""

    class Endpoint:
        def listen(self, factory: object) -> Deferred[Any]:
            return outcome()

    monkeypatch.setattr(process, "serverFromString", lambda reactor, text: Endpoint())
    with pytest.raises(StartError) as caught:
        listen(MemoryReactorClock(), "strange:1", ServerFactory())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_endpoint_that_takes_its_time_is_not_supported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "'strange:1' takes its time" in complaint(Deferred, monkeypatch)


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("no\nway"), "cannot listen on 'strange:1': no way"),
        (RuntimeError(), "cannot listen on 'strange:1': RuntimeError"),
        (
            CannotListenError("::1", 25, OSError(errno.EACCES, "no")),
            "cannot listen on ::1:25: Permission denied; only root may",
        ),
        (
            CannotListenError(None, "/run/smtp", OSError(errno.ENOENT, "no")),
            "cannot listen on /run/smtp: No such file or directory",
        ),
        (CannotListenError("::1", 25, "odd"), "cannot listen on ::1:25: odd"),
    ],
)
def test_an_endpoint_that_fails_says_why_and_what_to_do(
    monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    assert complaint(lambda: fail(error), monkeypatch).startswith(says)


def test_an_endpoint_that_cannot_be_understood_says_so() -> None:
    with pytest.raises(StartError, match="'tcp:x' is not an endpoint: "):
        listen(MemoryReactorClock(), "tcp:x", ServerFactory())


# The end


def test_the_last_resort_ends_the_process_in_its_time() -> None:
    statuses: list[int] = []
    timer = endLater(0.01, statuses.append)
    timer.join(20)
    assert statuses == [1]
    assert timer.daemon
