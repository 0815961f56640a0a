"""Processes of the benches: started, measured out of /proc, and ended by their number."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

LIMIT = 60.0  # seconds that a start or an end may take on a busy machine
_TICK = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """What went wrong, in words for whoever runs the bench."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens on 127.0.0.1:`port`; `pid` is the parent of all of it.

    `settle` returns when the work behind what it has accepted is done too.
    """

    port: int
    pid: int
    settle: Callable[[], None] = lambda: None


def raiseLimits() -> None:
    """As many open files as we may have; the processes we start inherit it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def freePort() -> int:
    """A port that nobody listens on now, for programs that must be told one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def waitUntil(isDone: Callable[[], bool], what: str, limit: float = LIMIT) -> None:
    """Ask until it is; raises BenchError when the limit is over."""
    deadline = time.monotonic() + limit
    while not isDone():
        if time.monotonic() > deadline:
            raise BenchError(f"{what}: not within {limit:.0f} s")
        time.sleep(0.02)


def isListening(port: int) -> bool:
    """Whether anybody accepts a connection."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@contextmanager
def started(
    command: Sequence[str | Path],
    place: Path,
    announced: str = r"listening on (\d+)",
    env: Mapping[str, str] | None = None,
) -> Iterator[Running]:
    """Run a server that says its port in its output, which goes to `place`/log."""
    log = place / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            cwd=place,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:

        def hasBegun() -> bool:
            if process.poll() is not None:
                raise BenchError(lastLine(log) or f"ended with {process.returncode}")
            return re.search(announced, log.read_text(errors="replace")) is not None

        waitUntil(hasBegun, f"{command[1]} to listen")
        found = re.search(announced, log.read_text(errors="replace"))
        assert found is not None
        yield Running(int(found[1]), process.pid)
    finally:
        end(process)


def end(process: subprocess.Popen[bytes]) -> None:
    """In the ordinary way, else by force."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def lastLine(log: Path) -> str:
    """The end of a log, which mostly says why."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


# What they took


def tree(pid: int) -> list[int]:
    """A process and all that descend from it, as they are now."""
    children: dict[int, list[int]] = {}
    for each in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parent = int(each.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(each.parent.name))
    found = [pid]
    for one in found:
        found += children.get(one, [])
    return found


def cpuSeconds(pid: int) -> float:
    """Processor time of a process and its children, ended ones too, so far."""
    ticks = 0
    for each in tree(pid):
        with suppress(OSError):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(map(int, fields[11:15]))  # utime stime cutime cstime
    return ticks / _TICK


def memory(pid: int, field: str = "VmHWM") -> int:
    """Octets, summed over a process and its children: VmHWM at the peak, VmRSS now."""
    kilobytes = 0
    for each in tree(pid):
        with suppress(OSError):
            status = Path(f"/proc/{each}/status").read_text()
            found = re.search(rf"^{field}:\s+(\d+) kB", status, re.MULTILINE)
            kilobytes += int(found[1]) if found else 0
    return kilobytes * 1024
