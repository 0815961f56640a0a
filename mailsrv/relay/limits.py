"""How much the relay does at a time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RelayLimits:
    """`connections` in all and `connectionsPerHop`; `messagesPerConnection`; `held`: addresses
    claimed at a time; `linger`: seconds a connection waits for one more message; `poll`: seconds
    between two looks into the queue; `lease`: seconds after which others may take what a worker
    that has died had claimed."""

    connections: int = 50
    connectionsPerHop: int = 5
    messagesPerConnection: int = 100
    held: int = 500
    linger: float = 2.0
    poll: float = 5.0
    lease: float = 300.0
