"""Several processes behind the same ports (--workers).

The parent binds the ports and does all there should be one of: it sends what is queued, delivers
events, and answers for all. Its children inherit the listening sockets, receive mail, and share
nothing but the database. A child that dies is started again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IListeningPort, IProcessTransport
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailsrv.parent import COUNTS, FIRST_SOCKET, INHERITED, PIPE
from mailsrv.web.receiving import Counts, Tally

FIRST_PAUSE = 1.0  # seconds before a child that has died is started again, doubled each time
LAST_PAUSE = 30.0
STEADY = 60.0  # a child that has lived so long begins anew with the first pause

# What may hold a password goes by the environment: the command line is for all to see.
_SECRET = frozenset({"db", "smart-host"})

_log = Logger(namespace="smtpstore")


class Workers:
    """The children of a server: started, started again, and stopped with it.

    `given`: what was said on the command line, by option. `ports`: bound by the parent, in the
    order of the settings; it does not accept on them. `logsToStdout`: or else, as a daemon has no
    standard output, what the children log becomes part of our own log. `tally`: what they have
    counted, where they do.
    """

    def __init__(
        self,
        reactor: Any,
        count: int,
        given: Mapping[str, Sequence[str]],
        environ: Mapping[str, str],
        logsToStdout: bool = True,
    ) -> None:
        self._reactor = reactor
        self._count = count
        self._out = (1, 2) if logsToStdout else ("r", "r")
        self._arguments = [
            f"--{name}={text}" if text != "true" else f"--{name}"
            for name, texts in given.items()
            if name not in _SECRET
            for text in texts
        ]
        self._environ = dict(environ)
        for name in _SECRET & given.keys():
            self._environ["SMTPSTORE_" + name.upper().replace("-", "_")] = given[name][-1]
        self.tally = Tally()
        self._sockets: list[int] = []
        self._hear: Callable[[str], None] = _ignore
        self._children: dict[int, _Child] = {}
        self._timers: dict[int, IDelayedCall] = {}
        self._isStopping = False

    def start(self, ports: Sequence[IListeningPort], hear: Callable[[str], None]) -> None:
        """Start them all; `hear` is called with the words they say: `queue`, `events`."""
        self._hear = hear
        self._sockets = [port.fileno() for port in ports]  # type: ignore[attr-defined]
        numbers = range(FIRST_SOCKET, FIRST_SOCKET + len(ports))
        self._environ[INHERITED] = ",".join(map(str, numbers))
        for number in range(1, self._count + 1):
            self._spawn(number, FIRST_PAUSE)

    def _spawn(self, number: int, pause: float) -> None:
        self._timers.pop(number, None)
        child = _Child(self, number, self._reactor.seconds(), pause)
        self._children[number] = child
        descriptors: dict[int, int | str] = {0: "w", 1: self._out[0], 2: self._out[1], PIPE: "r"}
        descriptors |= dict(enumerate(self._sockets, FIRST_SOCKET))
        child.process = self._reactor.spawnProcess(
            child,
            sys.executable,
            [sys.executable, "-m", "mailsrv.workers", *self._arguments],
            env=self._environ,
            childFDs=descriptors,
        )
        _log.info("worker {number} of {count} started", number=number, count=self._count)

    def heard(self, child: _Child, line: str) -> None:
        """A child has said something over its pipe."""
        if line.startswith(COUNTS):
            self.tally.heard(child.number, Counts.load(line.removeprefix(COUNTS)))
        else:
            self._hear(line)

    def ended(self, child: _Child, reason: str) -> None:
        """A child has ended; unless all are to, it is started again."""
        self._children.pop(child.number, None)
        self.tally.ended(child.number)
        if self._isStopping:
            return
        now = self._reactor.seconds()
        pause = FIRST_PAUSE if now - child.since > STEADY else child.pause
        _log.error(
            "worker {number} has ended: {reason}; it is started again in {pause:g} s",
            number=child.number,
            reason=reason,
            pause=pause,
        )
        self._timers[child.number] = self._reactor.callLater(
            pause, self._spawn, child.number, min(2 * pause, LAST_PAUSE)
        )

    def stop(self, limit: float) -> Deferred[None]:
        """Have all end in their own good time; fires when they have, and kills those that are
        still there after `limit` seconds."""
        self._isStopping = True
        for timer in self._timers.values():
            timer.cancel()
        children = list(self._children.values())
        for child in children:
            child.signal("TERM")
        gone = DeferredList([child.gone for child in children])
        killer = self._reactor.callLater(limit, _kill, children)

        def allGone(_: object) -> None:
            if killer.active():
                killer.cancel()

        return gone.addCallback(allGone)


class _Child(ProcessProtocol):
    """One process."""

    def __init__(self, workers: Workers, number: int, since: float, pause: float) -> None:
        self.number = number
        self.since = since
        self.pause = pause
        self.gone: Deferred[None] = Deferred()
        self.process: IProcessTransport | None = None
        self._workers = workers
        self._said = b""

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        if childFD != PIPE:
            self.outReceived(data)
            return
        *lines, self._said = (self._said + data).split(b"\n")
        for line in lines:
            self._workers.heard(self, line.decode())

    def outReceived(self, data: bytes) -> None:
        for line in data.decode(errors="replace").splitlines():
            _log.info("worker {number}: {line}", number=self.number, line=line)

    def signal(self, name: str) -> None:
        if self.process is not None and not self.gone.called:
            self.process.signalProcess(name)

    def processEnded(self, reason: Failure) -> None:
        self._workers.ended(self, reason.getErrorMessage())
        self.gone.callback(None)


def _kill(children: Sequence[_Child]) -> None:
    for child in children:
        if not child.gone.called:
            _log.critical("worker {number} does not end and is killed", number=child.number)
            child.signal("KILL")


def _ignore(_: str) -> None:
    """Before the start nobody is there to hear."""


def main() -> None:
    """A child: the same server on the sockets it has inherited, its log on standard output."""
    from twisted.scripts.twistd import run

    sys.argv[1:1] = ["--nodaemon", "--pidfile=", "--logfile=-", "smtpstore"]
    run()


if __name__ == "__main__":
    main()
