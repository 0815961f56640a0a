"""How long a client waits for what."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds; the defaults are the least that RFC 5321 §4.5.3.2 asks for.

    `connect`: for the connection. `greeting`, `command`, `data`: for the 220, for the reply to a
    command, for the 354. `block`: for each block of content to be taken. `end`: for the reply to
    the end of the content. `quit`: for the 221, and for the connection to close.
    """

    connect: float = 60.0
    greeting: float = 300.0
    command: float = 300.0
    data: float = 120.0
    block: float = 180.0
    end: float = 600.0
    quit: float = 10.0

    def after(self, verb: str) -> float:
        """How long to wait for the reply to a command."""
        return {"DATA": self.data, "QUIT": self.quit}.get(verb, self.command)
