"""What a process gives its server: a clock, files, ports, a user; or one line that says why not."""

from __future__ import annotations

import ctypes
import errno
import gc
import os
import pwd
import resource
import socket
import stat
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from twisted.internet import tcp, unix
from twisted.internet.base import ReactorBase
from twisted.internet.endpoints import serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python import log
from twisted.python.failure import Failure
from twisted.python.util import runAsEffectiveUser

from mailsrv.smtp.errors import Unavailable
from mailsrv.store.dialect import Dialect
from mailsrv.store.migrate import SchemaError, check, upgrade

_DATABASE_LIMIT = 10.0  # seconds that a database has to answer before it counts as down
_LISTEN_HINTS = {
    errno.EADDRINUSE: "another program listens there; stop it, or give another port",
    errno.EACCES: "only root may; start as root with twistd --uid USER, or take a port over 1023",
    errno.EADDRNOTAVAIL: "this machine has no such address; give another --interface",
}

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h numbers them
_MOST_KEPT = 32 << 20  # octets
_LARGEST_KEPT = 8 << 20

_log = Logger(namespace="smtpstore")


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


def stopOnce(reactor: Any) -> None:
    """Have a reactor that is stopping already take no offence at being told so again.

    Each signal is such a call, and of two that come together the second would leave a traceback.
    """
    stop: Callable[[], None] = reactor.stop
    isTold = False

    def stopNow() -> None:
        nonlocal isTold
        if not isTold:
            stop()
            isTold = True

    reactor.stop = stopNow


def endLater(seconds: float, end: Callable[[int], object] = os._exit) -> threading.Timer:
    """End the process by force in so many seconds, if it is still there.

    By a thread of its own, as a thread that hangs in a database's driver makes the reactor, or
    the interpreter after it, wait for ever. What was not answered 250 by then is not promised.
    """

    def giveUp() -> None:
        _log.critical("Something hangs and keeps the server from stopping: it is ended by force")
        end(1)

    timer = threading.Timer(seconds, giveUp)
    timer.daemon = True
    timer.start()
    return timer


def rightsOf(uid: int | None, gid: int | None) -> tuple[int, int] | None:
    """The user and group that twistd will become, None where it stays what it is."""
    if uid is None:
        return None
    if os.geteuid() not in (0, uid):
        raise StartError("only root may run it as another user; start as root, or without --uid")
    return uid, pwd.getpwuid(uid).pw_gid if gid is None else gid


def collectRarely() -> None:
    """Spare the garbage collector what is there for good, and have it look less often.

    Sessions leave no cycles behind, so hardly anything is found. With Python's own thresholds
    the collector takes some 28 of the 390 µs of CPU that a message of 4 KiB costs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


def keepFreedMemory() -> None:
    """Have malloc keep up to 32 MiB of a heap that are free, in place of asking for them anew.

    By itself glibc gives back all but a few MiB, and for each message of 1 MiB the system then has
    to clear 250 to 450 pages. Kept, it is one, 1 ms of CPU less: 1.16 times as much mail of 1 MiB
    on MariaDB, 1.05 on SQLite. A server that has had much of it keeps some 20 MiB more, in all its
    heaps, and peaks within 6 MiB of where it did. Other libraries of C are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        mallopt(_TRIM_THRESHOLD, _MOST_KEPT)


def callWithoutLogContext() -> None:
    """Have the reactor call whatever is ready without a log context around each call.

    The context is what the old twisted.python.log names the connection from: in lines that nothing
    of ours writes, and above the traceback of an error that a protocol lets out, which then has a
    dash there. It takes a dozen calls of Python, four to seven times a message: without, 1.05 times
    as many messages of 4 KiB a second. What else goes wrong is logged with it, as ever.
    """
    withContext = log.callWithLogger

    def callWithLogger(logger: Any, func: Callable[..., Any], *args: Any, **kw: Any) -> Any:
        try:
            return func(*args, **kw)
        except BaseException as error:
            return withContext(logger, _raise, error)

    log.callWithLogger = callWithLogger


def _raise(error: BaseException) -> None:
    raise error


def runAs(rights: tuple[int, int] | None, function: Callable[[], None]) -> None:
    """Call it with the rights that twistd will have, so that the files it makes are theirs."""
    if rights is None:
        function()
    else:
        runAsEffectiveUser(*rights, function)


def openDatabase(dialect: Dialect, limit: float = _DATABASE_LIMIT) -> tuple[bool, list[str]]:
    """Bring the tables up to date, or check them where only `smtpstore init` may change them.

    Returns whether they are, and what to warn of: a database that is down need not be there yet,
    where it is not for us to make. `limit`: seconds that it has to answer. Raises StartError.
    """
    try:
        if dialect.upgradesItself:
            upgrade(dialect)
        return True, check(dialect, min(limit, _DATABASE_LIMIT))
    except SchemaError as error:
        raise StartError(str(error)) from None
    except Unavailable as error:
        if not dialect.upgradesItself:
            return False, [f"{error}; mail is answered 421 until it is"]
        raise StartError(f"{error}; see --db") from None


@contextmanager
def workingIn(folder: str) -> Iterator[None]:
    """Be in `folder`, twistd's --rundir, where it goes itself later, and then be back.

    Where that is where we are, a way back there need not be. Raises StartError.
    """
    if folder == ".":
        yield
        return
    before = os.getcwd()
    try:
        os.chdir(folder)
    except OSError as error:
        raise StartError(
            f"--rundir {folder}: {error.strerror}; give a folder that the server's user may enter"
        ) from None
    try:
        yield
    finally:
        try:
            os.chdir(before)
        except PermissionError:
            raise StartError(
                f"the folder {before} is closed to the server's user; start it elsewhere"
            ) from None


def tryDirectory(path: str) -> None:
    """Raises StartError where no temporary file can be made in `path`."""
    try:
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise StartError(
            f"--spool {path}: {error.strerror}; give a directory that can be written"
        ) from None


def filesFor(connections: int) -> int:
    """How many files may have to be open: a socket and a spool's file for each, and some."""
    return 2 * connections + 100


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


def listen(
    reactor: Any,
    description: str,
    factory: IProtocolFactory,
    owner: tuple[int, int] | None = None,
) -> IListeningPort:
    """Listen on a server endpoint here and now; raises StartError.

    Here, because an endpoint that fails in a service that has started leaves a process that
    lives on deaf. A UNIX socket is given to `owner`, user and group; one that a server which was
    killed has left behind is replaced.
    """
    port = _tryToListen(reactor, description, factory)
    if isinstance(port, Failure) and _removeLeftOver(port.value):
        port = _tryToListen(reactor, description, factory)
    if isinstance(port, Failure):
        raise StartError(_whyNot(description, port.value))
    if isinstance(port, unix.Port):
        _takeCareOf(port, description.startswith("unix:"), owner)
    return port


def _tryToListen(
    reactor: Any, description: str, factory: IProtocolFactory
) -> IListeningPort | Failure:
    try:
        outcome: list[IListeningPort | Failure] = []
        serverFromString(reactor, description).listen(factory).addBoth(outcome.append)
    except Exception as error:
        raise StartError(f"{description!r} is not an endpoint: {_oneLine(error)}") from None
    if not outcome:
        raise StartError(f"{description!r} takes its time to listen, which is not supported")
    return outcome[0]


def _whyNot(description: str, error: BaseException | None) -> str:
    if not isinstance(error, CannotListenError):
        return f"cannot listen on {description!r}: {_oneLine(error)}"
    cause = error.socketError
    code = getattr(cause, "errno", None)
    place = f"{error.interface}:{error.port}" if error.interface is not None else _path(error)
    if code is None:
        return f"cannot listen on {place}: {_oneLine(cause)}"
    hint = f"; {_LISTEN_HINTS[code]}" if code in _LISTEN_HINTS else ""
    return f"cannot listen on {place}: {os.strerror(code)}{hint}"


def _path(error: CannotListenError) -> str:
    """Where a UNIX socket should have been, which Twisted calls a port."""
    return os.fsdecode(error.port)


def _takeCareOf(port: unix.Port, isOurs: bool, owner: tuple[int, int] | None) -> None:
    """Give the file of a UNIX socket to `owner`, and have it removed at the end as far as we may.

    Twisted alone would remove that of systemd too, and never finish to stop where it must not.
    """
    path = port.getHost().name
    if isOurs and owner is not None:
        os.chown(path, *owner)

    def connectionLost(reason: Failure) -> None:
        if isOurs:
            with suppress(OSError):
                os.unlink(path)
        tcp.Port.connectionLost(port, reason)

    port.connectionLost = connectionLost  # type: ignore[method-assign]


def _removeLeftOver(error: BaseException | None) -> bool:
    """Whether the place was taken by a UNIX socket that nobody listens on, and is free now."""
    if not isinstance(error, CannotListenError) or error.interface is not None:
        return False
    with suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        isSocket = stat.S_ISSOCK(os.stat(error.port).st_mode)
        if isSocket and client.connect_ex(error.port) == errno.ECONNREFUSED:
            os.unlink(error.port)
            return True
    return False


def _oneLine(error: BaseException | None) -> str:
    return " ".join(str(error).split()) or type(error).__name__
