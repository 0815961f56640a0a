"""A TCP proxy between a server and its database that fails in the middle of a COMMIT."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

_COMMIT = b"\x07\x00\x00\x00\x03COMMIT"
_EXECUTE = b"\x17"  # of a prepared statement: rows of mail
_MOST = 1 << 16


class FaultyProxy:
    """Passes octets on to 127.0.0.1:`target`, from `port`.

    `fault`: what happens at the COMMITs of mail from now on: "" nothing; "before", the connection
    is cut and the database never hears of it; "after", it is cut once the database has
    committed; "hold", the database commits and its answer is held back until `release`.
    `atCommit` counts the COMMITs that were met so; `happened` is set at each.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.fault = ""
        self.atCommit = 0
        self.happened = threading.Event()
        self._released = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=50)
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._run(self._accept)

    def _run(self, *work: object) -> None:
        function, *args = work
        thread = threading.Thread(target=function, args=args, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                try:
                    server = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    client.close()
                    continue
                for each in (client, server):
                    each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._sockets.append(server)
                cut = _Cut(client, server)
                self._run(self._up, client, server, cut)
                self._run(self._down, client, server, cut)

    def _up(self, client: socket.socket, server: socket.socket, cut: _Cut) -> None:
        """From the client to the database."""
        hasMail, isCommit = False, False
        with suppress(OSError):
            while octets := client.recv(_MOST):
                hasMail = hasMail or octets[4:5] == _EXECUTE
                isCommit = octets.endswith(_COMMIT)
                if isCommit and hasMail and self.fault:
                    self.atCommit += 1
                    if self.fault == "before":
                        break
                    cut.fault = self.fault
                hasMail = hasMail and not isCommit
                server.sendall(octets)
        cut.close()
        if isCommit and self.atCommit:
            self.happened.set()

    def _down(self, client: socket.socket, server: socket.socket, cut: _Cut) -> None:
        with suppress(OSError):
            while octets := server.recv(_MOST):
                if cut.fault:
                    self.happened.set()
                if cut.fault == "after":
                    break
                if cut.fault == "hold":
                    self._released.wait(60)
                client.sendall(octets)
        cut.close()

    def release(self) -> None:
        """Give the answers that were held back."""
        self._released.set()

    def close(self) -> None:
        self.release()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        for thread in self._threads:
            thread.join(5)


class _Cut:
    """The two ends of one connection, and what is to happen to it."""

    def __init__(self, *ends: socket.socket) -> None:
        self.fault = ""
        self._ends = ends

    def close(self) -> None:
        for end in self._ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
