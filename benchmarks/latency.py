"""How long a sender waits for its 250, at half the peak load, beside very large mail."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from statistics import median, quantiles
from typing import Any

from cases import CASES, Bench, Case, send, smtpSource
from targets import RECIPIENT, SENDER, Target

CONNECTIONS = 100
LARGE = Case("large", "one message of 50 MiB", 1, False, 50 << 20)
MOST_LARGE = 10  # under way at a time; a second in which so many are begins no other
PEAK_RUN = 3000  # messages, to learn the peak
TICK = 0.001  # seconds

_ENVELOPE = f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{RECIPIENT}>\r\nDATA\r\n".encode()
_CONTENT = b"Subject: latency\r\n\r\n" + (b"X" * 78 + b"\r\n") * 51 + b".\r\n"


class Sender(asyncio.Protocol):
    """One connection, one message at a time: envelope in one segment, then content with its dot.

    `idle` takes it in when it is ready for another; `waits` takes the seconds from dot to 250.
    """

    transport: asyncio.Transport

    def __init__(self, idle: deque[Sender], waits: list[float]) -> None:
        self._idle = idle
        self._waits = waits
        self._rest = b""
        self._expected = [b"220", b"250"]
        self._dotAt = 0.0
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.write(b"EHLO client.bench.example\r\n")

    def begin(self) -> None:
        """Send a message."""
        self._expected = [b"250", b"250", b"354", b"250"]
        self.transport.write(_ENVELOPE)

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\r\n")
        for line in lines:
            if line[3:4] != b"-":
                self._reply(line)

    def _reply(self, line: bytes) -> None:
        if line[:3] != self._expected.pop(0):
            self.transport.close()
            self.lost.set_exception(RuntimeError(line.decode("ascii", "replace")))
        elif line[:3] == b"354":
            self._dotAt = time.perf_counter()
            self.transport.write(_CONTENT)
        elif not self._expected:
            if self._dotAt:
                self._waits.append(time.perf_counter() - self._dotAt)
            self._idle.append(self)


async def load(port: int, rate: float, seconds: float) -> tuple[list[float], float]:
    """Begin `rate` messages a second, however fast they are answered.

    Returns the seconds from each dot to its 250, and by how many the latest message was begun
    late, because no connection was idle or this process had no turn.
    """
    loop = asyncio.get_running_loop()
    idle: deque[Sender] = deque()
    waits: list[float] = []
    senders = [
        (await loop.create_connection(lambda: Sender(idle, waits), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    while len(idle) < CONNECTIONS:
        await asyncio.sleep(TICK)
    begun, sent, late = time.perf_counter(), 0, 0.0
    while (elapsed := time.perf_counter() - begun) < seconds:
        due = int(elapsed * rate) - sent
        late = max(late, elapsed - sent / rate)
        for _ in range(min(due, len(idle))):
            idle.popleft().begin()
            sent += 1
        await asyncio.sleep(TICK)
        if any(sender.lost.done() for sender in senders):
            break
    while len(waits) < sent and not any(sender.lost.done() for sender in senders):
        await asyncio.sleep(TICK)
    for sender in senders:
        sender.transport.close()
        if sender.lost.done():
            sender.lost.result()
    return waits, late


async def sendLarge(port: int, seconds: float) -> list[float]:
    """Begin a large message every second; how long each that was stored has taken."""
    taken: list[float] = []

    async def one() -> None:
        begun = time.perf_counter()
        process = await asyncio.create_subprocess_exec(*smtpSource(port, LARGE, 1))
        if await process.wait() == 0:
            taken.append(time.perf_counter() - begun)

    under: set[asyncio.Task[None]] = set()
    for _ in range(int(seconds)):
        if len(under) < MOST_LARGE:
            task = asyncio.create_task(one())
            under.add(task)
            task.add_done_callback(under.discard)
        await asyncio.sleep(1)
    if under:
        await asyncio.wait(under)
    return taken


def latency(bench: Bench, target: Target, seconds: float) -> dict[str, Any]:
    """Seconds from the final dot to the 250: median, 99th percentile and the longest."""

    async def both(port: int, rate: float) -> tuple[tuple[list[float], float], list[float]]:
        return await asyncio.gather(load(port, rate, seconds), sendLarge(port, seconds))

    with bench.running(target) as server:
        case = CASES["100-open"]
        send(server.port, case, PEAK_RUN // 10)
        rate = PEAK_RUN / send(server.port, case, PEAK_RUN) / 2
        (waits, late), large = asyncio.run(both(server.port, rate))
    return {
        "messages a second": round(rate),
        "messages": len(waits),
        "begun late by ms": round(late * 1000, 1),
        "median ms": round(median(waits) * 1000, 1),
        "p99 ms": round(quantiles(waits, n=100)[98] * 1000, 1),
        "longest ms": round(max(waits) * 1000, 1),
        "large": len(large),
        "median s of a large one": round(median(large), 2) if large else None,
    }
