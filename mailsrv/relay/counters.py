"""What the relay has done, in numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Since the start: addresses `sent`, `deferred` (once for each attempt) and `failed`;
    `reports` stored. Now: open `connections`, addresses `held` to be tried."""

    sent: int = 0
    deferred: int = 0
    failed: int = 0
    reports: int = 0
    connections: int = 0
    held: int = 0
