"""What the doctor finds about the ports: free, in use by a mail server, or by another program."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory

from mailsrv.cli.output import safe
from mailsrv.ports import Port
from mailsrv.settings import Settings
from mailsrv.store.dialect import Finding

_LIMIT = 3.0  # seconds that whoever listens there has to greet
_STARTS = "the server starts where its ports are free; while it runs it holds them itself"
_MEND = {
    errno.EADDRINUSE: "stop what listens there (ss -ltnp shows it), or give another port",
    errno.EACCES: "let systemd hold it, start as root (twistd --uid USER), or take one over 1023",
    errno.EADDRNOTAVAIL: "give an --interface of this machine",
}


def portFindings(settings: Settings) -> Iterator[Finding]:
    """A look at each TCP port; sockets of systemd's and UNIX ones are left to them."""
    for port in settings.ports:
        if port.endpoint.startswith(("tcp:", "tcp6:")):
            yield _look(port)


class _Recorder:
    """Stands for a reactor: an endpoint says where it would listen."""

    def listenTCP(self, port: int, factory: object, backlog: int, interface: str) -> object:
        self.place = interface, port
        return self


def _look(port: Port) -> Finding:
    reactor: Any = _Recorder()
    try:
        serverFromString(reactor, port.endpoint).listen(Factory())
    except (ValueError, TypeError, LookupError) as error:
        value = f"not an endpoint ({error})"
        return Finding(port.name, value, False, _STARTS, "write it as tcp:25:interface=ADDRESS")
    host, number = reactor.place
    name = f"port {number} ({port.name})"
    code = _whyNotFree(host, number)
    if code is None:
        return Finding(name, "free", True, _STARTS, "")
    greeting = _greeting(port, host, number)
    if greeting.startswith("220 "):
        return Finding(name, f"in use, by who greets: {safe(greeting)}", True, _STARTS, "")
    isTaken = greeting or code == errno.EADDRINUSE
    value = "in use by another program" if isTaken else os.strerror(code)
    mend = _MEND.get(errno.EADDRINUSE if isTaken else code, "give another port or --interface")
    return Finding(name, value, False, _STARTS, mend)


def _whyNotFree(host: str, number: int) -> int | None:
    """The error that binding ends in, None where it can be bound."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        # As the server does; one that has just ended is not in the way.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, number))
        except OSError as error:
            return error.errno or errno.EADDRINUSE
    return None


def _greeting(port: Port, host: str, number: int) -> str:
    """The first line of who listens there; '' where there is none in time."""
    nearest = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
    try:
        with socket.create_connection((nearest.get(host, host), number), _LIMIT) as connection:
            if port.listener.isProxied:
                connection.sendall(b"PROXY UNKNOWN\r\n")
            if not port.listener.isSecure:
                return _line(connection)
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(connection) as secure:
                return _line(secure)
    except OSError:
        return ""


def _line(connection: socket.socket) -> str:
    return connection.recv(1000).partition(b"\r\n")[0].decode("utf-8", "replace")
