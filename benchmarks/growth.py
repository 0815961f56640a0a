"""Whether a database that grows slows the server down."""

from __future__ import annotations

from typing import Any

from cases import CASES, Bench, send
from targets import Target

SLICES = 20


def growth(bench: Bench, target: Target, count: int) -> dict[str, Any]:
    """Messages a second in each twentieth of `count` messages, and the last against the first."""
    case = CASES["100-open"]
    slice = max(count // SLICES, 1)
    with bench.running(target) as server:
        send(server.port, case, max(slice // 10, 1))
        rates = [round(slice / send(server.port, case, slice)) for _ in range(SLICES)]
    return {"messages": slice * SLICES, "rates": rates, "end to start": rates[-1] / rates[0]}
