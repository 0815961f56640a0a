"""What an idle connection costs in memory."""

from __future__ import annotations

import socket
from typing import Any

from cases import Bench
from processes import BenchError, memory
from targets import Target

WARM = 100  # connections before, so that what is allocated once is no one's


def idle(bench: Bench, target: Target, count: int) -> dict[str, Any]:
    """Octets of the server's memory for each of `count` connections that said EHLO and wait."""
    # Several processes share the limit, and do not get the same number of them.
    most = 2 * (count + WARM)
    with bench.running(target, "--max-connections", str(most)) as server:
        kept = [greeted(server.port) for _ in range(WARM)]
        before = memory(server.pid, "VmRSS")
        kept += [greeted(server.port) for _ in range(count)]
        after = memory(server.pid, "VmRSS")
        for connection in kept:
            connection.close()
    return {"connections": count, "octets each": round((after - before) / count)}


def greeted(port: int) -> socket.socket:
    """A connection that has said EHLO and heard the answer."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=60)
    with connection.makefile("rb") as replies:
        greeting = replies.readline()
        connection.sendall(b"EHLO client.bench.example\r\n")
        while (answer := replies.readline())[3:4] == b"-":
            pass
    if not greeting.startswith(b"220 ") or not answer.startswith(b"250 "):
        raise BenchError(f"not let in: {greeting!r} {answer!r}")
    return connection
