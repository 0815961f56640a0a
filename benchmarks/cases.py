"""The cases, and one run of one of them: smtp-source against a fresh server."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from privatemariadb import Mariadb, find, mariadb
from processes import BenchError, Running, cpuSeconds, memory
from targets import RECIPIENT, SENDER, Target

LIMIT = 1800.0  # seconds for one run


@dataclass(frozen=True, slots=True)
class Case:
    """`connections` at a time, kept open or closed after each message; `size` octets each.

    `share`: of the messages asked for, one in so many is sent.
    """

    name: str
    what: str
    connections: int
    isKeptOpen: bool
    size: int = 4096
    share: int = 1

    def count(self, messages: int) -> int:
        """How many messages a run sends, where 4 KiB ones would be `messages`."""
        return max(messages // self.share, 1)


_ALL = (
    Case("20-new", "20 connections, one message each, 4 KiB", 20, False),
    Case("100-new", "100 connections, one message each, 4 KiB", 100, False),
    Case("100-open", "100 connections kept open, 4 KiB", 100, True),
    Case("500-open", "500 connections kept open, 4 KiB", 500, True),
    Case("10-large", "10 connections kept open, 1 MiB", 10, True, 1 << 20, 25),
)
CASES = {case.name: case for case in _ALL}


@dataclass(frozen=True, slots=True)
class Result:
    """What one run gave. CPU in seconds for 1,000 messages, memory in octets at the peak."""

    case: str
    target: str
    round: int
    messages: int
    seconds: float
    cpu: float
    databaseCpu: float
    memory: int

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.seconds


class Bench:
    """A directory on a real disk, and the servers that run in it one after the other."""

    def __init__(self, place: Path, mariadb: Mariadb | None) -> None:
        self.mariadb = mariadb
        self._place = place

    @contextmanager
    def running(self, target: Target, *options: str) -> Iterator[Running]:
        """A fresh server over a fresh database; nothing is left of either."""
        with ExitStack() as stack:
            place = Path(tempfile.mkdtemp(prefix=f"{target.name}-", dir=self._place))
            place.chmod(0o755)  # Postfix's daemons are other users
            url = ""
            if target.database == "sqlite":
                url = f"sqlite:{place}/mail.db"
            elif target.database:
                assert self.mariadb is not None
                url = stack.enter_context(self.mariadb.database(forPeer=not target.isOurs))
            yield stack.enter_context(target.start(place, url, *options))
            stack.close()
            subprocess.run(["rm", "-rf", place], check=True)

    def databasePid(self, target: Target) -> int | None:
        """The database's process, where it is one of its own."""
        return self.mariadb.pid if self.mariadb and target.database == "mysql" else None

    def measure(self, target: Target, case: Case, messages: int, round: int) -> Result:
        """One run: a tenth as a warm-up, then what counts."""
        count = case.count(messages)
        with self.running(target) as server:
            send(server.port, case, max(count // 10, 1))
            server.settle()
            pids = [server.pid, self.databasePid(target)]
            before = [cpuSeconds(pid) if pid else 0.0 for pid in pids]
            seconds = send(server.port, case, count)
            server.settle()
            after = [cpuSeconds(pid) if pid else 0.0 for pid in pids]
            cpu, databaseCpu = ((b - a) * 1000 / count for a, b in zip(before, after, strict=True))
            peak = memory(server.pid)
        return Result(case.name, target.name, round, count, seconds, cpu, databaseCpu, peak)


def smtpSource(port: int, case: Case, count: int) -> list[str]:
    """The command that sends `count` messages."""
    command = [str(find("smtp-source")), *(["-d"] if case.isKeptOpen else [])]
    command += ["-s", str(min(case.connections, count)), "-m", str(count), "-l", str(case.size)]
    command += ["-f", SENDER, "-t", RECIPIENT, "-M", "client.bench.example"]
    return [*command, f"127.0.0.1:{port}"]


def send(port: int, case: Case, count: int) -> float:
    """Have smtp-source send `count` messages; the seconds it took. Each must be answered 250."""
    command = smtpSource(port, case, count)
    begun = time.perf_counter()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    except subprocess.TimeoutExpired:
        raise BenchError(f"smtp-source has not ended within {LIMIT:.0f} s") from None
    seconds = time.perf_counter() - begun
    if done.returncode:
        lines = (done.stderr.strip() or f"smtp-source ended with {done.returncode}").splitlines()
        raise BenchError(lines[-1])
    return seconds


@contextmanager
def bench(directory: str, needsMariadb: bool) -> Iterator[Bench]:
    """All of it below a new directory in `directory`, which is removed at the end."""
    with tempfile.TemporaryDirectory(prefix="smtpstore-bench-", dir=directory) as name:
        place = Path(name)
        place.chmod(0o711)
        with ExitStack() as stack:
            server = stack.enter_context(mariadb(place / "mariadb")) if needsMariadb else None
            yield Bench(place, server)
