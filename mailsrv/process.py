"""What a process gives its server: a clock, files, ports, a user; or one line that says why not."""

from __future__ import annotations

import errno
import os
import pwd
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet.base import ReactorBase
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.python.failure import Failure
from twisted.python.util import runAsEffectiveUser

from mailsrv.smtp.errors import Unavailable
from mailsrv.store.dialect import Dialect
from mailsrv.store.migrate import SchemaError, check, upgrade

_LISTEN_HINTS = {
    errno.EADDRINUSE: "another program listens there; stop it, or give another --port",
    errno.EACCES: "only root may; start as root with twistd --uid USER, or take a port over 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address; give another --interface",
}


class StartError(Exception):
    """Why the server cannot start, and how to mend it: one line."""


def useMonotonicClock(reactor: Any) -> None:
    """Have the reactor's timers follow time.monotonic instead of the wall clock.

    Set forward, the wall clock fires all timers at once; set back, it freezes them: sessions
    would time out early or never, and deadlines be missed. Every timer is set and looked at by
    `reactor.seconds()`, so another clock in its place is enough, as long as no timer is set yet:
    those would hold times of the old one. A reactor with a clock of its own (asyncio's, which is
    monotonic) is left alone.
    """
    isWallClock = getattr(type(reactor), "seconds", None) is ReactorBase.seconds
    if isWallClock and not reactor.getDelayedCalls():
        reactor.seconds = time.monotonic


def runAs(uid: int | None, gid: int | None, function: Callable[[], None]) -> None:
    """Call it with the rights that twistd will have, so that the files it makes are theirs."""
    if uid is None:
        function()
        return
    if os.geteuid() not in (0, uid):
        raise StartError("only root may run it as another user; start as root, or without --uid")
    if gid is None:
        gid = pwd.getpwuid(uid).pw_gid
    runAsEffectiveUser(uid, gid, function)


def openDatabase(dialect: Dialect) -> None:
    """Bring the tables up to date, or check them where only `smtpstore init` may change them.

    Raises StartError.
    """
    try:
        if dialect.upgradesItself:
            upgrade(dialect)
        else:
            check(dialect)
    except (SchemaError, Unavailable) as error:
        raise StartError(f"{error}; see --db") from None


def tryDirectory(path: str) -> None:
    """Raises StartError where no temporary file can be made in `path`."""
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise StartError(
            f"--spool {path}: {error.strerror}; give a directory that can be written"
        ) from None


def raiseFileLimit(wanted: int) -> str | None:
    """Allow so many open files where we may; else a warning, one line."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return None
    ample = hard if hard == resource.RLIM_INFINITY else max(wanted, hard)
    for soft, most in ((wanted, ample), (hard, hard)):
        # Only root may raise the hard limit.
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, most))
            break
    if soft >= wanted:
        return None
    return (
        f"Only {soft} files may be open, {wanted} are needed for --max-connections; "
        "raise the limit (ulimit -n, or LimitNOFILE= of systemd)"
    )


def listen(reactor: Any, description: str, factory: IProtocolFactory) -> IListeningPort:
    """Listen on a server endpoint here and now; raises StartError.

    Here, because an endpoint that fails in a service that has started leaves a process that
    lives on deaf.
    """
    try:
        outcome: list[IListeningPort | Failure] = []
        serverFromString(reactor, description).listen(factory).addBoth(outcome.append)
    except Exception as error:
        raise StartError(f"{description!r} is not an endpoint: {_oneLine(error)}") from None
    if not outcome:
        raise StartError(f"{description!r} takes its time to listen, which is not supported")
    port = outcome[0]
    if isinstance(port, Failure):
        raise StartError(_whyNot(description, port.value))
    return port


def _whyNot(description: str, error: BaseException | None) -> str:
    if not isinstance(error, CannotListenError):
        return f"cannot listen on {description!r}: {_oneLine(error)}"
    cause = error.socketError
    code = getattr(cause, "errno", None)
    place = error.port if error.interface is None else f"{error.interface}:{error.port}"
    if code is None:
        return f"cannot listen on {place}: {_oneLine(cause)}"
    hint = f"; {_LISTEN_HINTS[code]}" if code in _LISTEN_HINTS else ""
    return f"cannot listen on {place}: {os.strerror(code)}{hint}"


def _oneLine(error: BaseException | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__
