"""The peer: twisted.mail.smtp and adbapi with PyMySQL, one COMMIT a message.

python benchmarks/twistedmail_adbapi.py mysql://user:password@host:port/name
"""

from __future__ import annotations

import sys
from typing import Any

from twisted.enterprise.adbapi import ConnectionPool
from twisted.internet.defer import Deferred
from twisted.mail import smtp
from zope.interface import implementer

from bare import serve
from peertables import insertOneTxn, mysqlArguments

CONNECTIONS = 10


@implementer(smtp.IMessage)
class Stored:
    """One message on its way into the database."""

    def __init__(self, pool: ConnectionPool, sender: str, recipient: str) -> None:
        self._pool = pool
        self._sender = sender
        self._recipient = recipient
        self._lines: list[bytes] = []

    def lineReceived(self, line: bytes) -> None:
        self._lines.append(line)

    def eomReceived(self) -> Deferred[Any]:
        data = b"\r\n".join([*self._lines, b""])
        stored: Deferred[Any] = self._pool.runInteraction(
            insertOneTxn, self._sender, [self._recipient], data
        )
        return stored

    def connectionLost(self) -> None:
        self._lines.clear()


@implementer(smtp.IMessageDelivery)
class Delivery:
    """Takes mail from everybody for everybody."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._sender = ""

    def receivedHeader(self, helo: Any, origin: Any, recipients: Any) -> bytes:
        return b""

    def validateFrom(self, helo: Any, origin: smtp.Address) -> smtp.Address:
        self._sender = str(origin)
        return origin

    def validateTo(self, user: smtp.User) -> Any:
        return lambda: Stored(self._pool, self._sender, str(user.dest))


class PeerSmtp(smtp.ESMTP):
    """With a delivery of its own for each connection."""

    pool: ConnectionPool

    def connectionMade(self) -> None:
        self.delivery = Delivery(self.pool)
        super().connectionMade()


if __name__ == "__main__":
    PeerSmtp.pool = ConnectionPool(
        "pymysql", cp_min=CONNECTIONS, cp_max=CONNECTIONS, **mysqlArguments(sys.argv[1])
    )
    serve(PeerSmtp)
