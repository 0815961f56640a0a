"""A worker's side of --workers: what it has from the process that started it, and tells it.

It inherits the listening sockets and a pipe. Over the pipe it says, a line each, that there is
something to send (`queue`, `events`), as the parent does all sending, and what it has counted. A
pipe, as a look into the database once a second would add that second to every message; should a
word be lost, the parent looks by itself some seconds later.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from twisted.internet import stdio
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProtocolFactory
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from mailsrv.settings import Settings
from mailsrv.web.receiving import Counts

INHERITED = "SMTPSTORE_INHERITED_SOCKETS"  # in the environment of a child: descriptors, with commas
PIPE = 3  # the descriptor of the pipe
FIRST_SOCKET = 4
GATHER = 0.01  # seconds in which what is said again is said once
REPORT = 1.0  # seconds between two reports
COUNTS = "counts "  # what a line begins with that is one


def inheritedSockets(environ: Mapping[str, str]) -> list[int] | None:
    """The descriptors of the listening sockets that a parent has left us; None: we are no child."""
    text = environ.get(INHERITED)
    return None if text is None else [int(number) for number in text.split(",")]


def adopt(reactor: Any, descriptor: int, factory: IProtocolFactory) -> IListeningPort:
    """Accept on an inherited socket."""
    with socket.socket(fileno=os.dup(descriptor)) as inherited:
        family = inherited.family
    port: IListeningPort = reactor.adoptStreamPort(descriptor, family, factory)
    os.close(descriptor)  # the port has one of its own
    return port


def shareOf(settings: Settings) -> Settings:
    """A child's part of the limits that hold for the whole server, rounded up."""
    count = settings.workers
    return replace(
        settings,
        maxConnections=-(-settings.maxConnections // count),
        maxConnectionsPerClient=-(-settings.maxConnectionsPerClient // count),
        spoolMemory=-(-settings.spoolMemory // count),
        spoolDisk=-(-settings.spoolDisk // count),
    )


class Parent:
    """The process that has started this one; without it we end too.

    `sockets`: the descriptors of the listening sockets. `pipe`: that of the pipe, which is never
    waited for.
    """

    def __init__(self, reactor: Any, sockets: list[int], pipe: int = PIPE) -> None:
        self.sockets = sockets
        self._reactor = reactor
        self._pipe = pipe
        self._due: set[str] = set()
        self._counts: Callable[[], Counts] | None = None
        self._said = ""
        self._timer: IDelayedCall | None = None
        os.set_blocking(pipe, False)
        os.set_inheritable(pipe, False)

    def endWithIt(self) -> None:
        """Stop when it goes without a word: its end of our standard input is closed then."""
        reactor = self._reactor

        class Watch(Protocol):
            def connectionLost(self, reason: Failure | None = None) -> None:
                reactor.callLater(0, os.kill, os.getpid(), signal.SIGTERM)

        stdio.StandardIO(Watch(), reactor=reactor)

    def poke(self, word: str) -> None:
        """Tell it soon that there is something to do. Quick: may be called for every message."""
        if word not in self._due:
            self._due.add(word)
            self._reactor.callLater(GATHER, self._poke, word)

    def _poke(self, word: str) -> None:
        self._due.discard(word)
        self.say(word)

    def report(self, counts: Callable[[], Counts]) -> None:
        """Say what was counted, where it is news: now, each second, and at the end."""
        self._counts = counts
        self._report(counts)

    def _report(self, counts: Callable[[], Counts]) -> None:
        self._timer = self._reactor.callLater(REPORT, self._report, counts)
        self._sayCounts(counts)

    def _sayCounts(self, counts: Callable[[], Counts]) -> None:
        line = COUNTS + counts().dump()
        if line != self._said:
            self._said = line
            self.say(line)

    def stop(self) -> None:
        """Say what is left to say."""
        if self._timer is not None and self._counts is not None:
            self._timer.cancel()
            self._sayCounts(self._counts)

    def say(self, line: str) -> None:
        """Say a line of at most 4,095 octets: it arrives whole, or where the pipe is full or the
        parent gone not at all."""
        with suppress(OSError):
            os.write(self._pipe, line.encode() + b"\n")
