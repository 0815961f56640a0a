"""An SMTP server inside your own Twisted program: mail for support@ lands in a SQLite file.

    python examples/embed.py tickets.db 2525
Then, for one, with swaks: swaks --server 127.0.0.1:2525 --to support@example.com
"""

import sys

from twisted.internet import endpoints
from twisted.internet.defer import Deferred
from twisted.internet.task import react
from zope.interface import implementer

from mailsrv import (
    ConnectionPool,
    IDirectory,
    Mailbox,
    Resolution,
    SmtpServerFactory,
    SqlStore,
    parseUrl,
    reply,
    standardExtensions,
    upgrade,
)

ACCEPTED = Resolution(reply(250, "2.1.5", "Recipient OK"))
UNKNOWN = Resolution(reply(550, "5.1.1", "No such user here"))


@implementer(IDirectory)
class Support:
    """Who may receive: support@ and support+anything@, at any domain."""

    def resolve(self, forwardPath: Mailbox) -> Resolution:
        return ACCEPTED if forwardPath.key.partition("@")[0].startswith("support") else UNKNOWN

    def verify(self, string: str):
        return reply(252, "2.5.0", "Cannot verify, but will take mail")

    expand = verify


async def main(reactor, path: str, port: str) -> None:
    dialect = parseUrl(f"sqlite:{path}")
    upgrade(dialect)
    store = SqlStore(ConnectionPool(dialect, reactor, threads=1), reactor)
    factory = SmtpServerFactory(
        store, Support(), reactor, hostname="localhost", extensions=standardExtensions()
    )
    endpoint = endpoints.TCP4ServerEndpoint(reactor, int(port), interface="127.0.0.1")
    listening = await endpoint.listen(factory)
    print(f"listening on {listening.getHost().port}", flush=True)
    reactor.addSystemEventTrigger("before", "shutdown", factory.shutdown)
    reactor.addSystemEventTrigger("during", "shutdown", store.close)
    await Deferred()  # until the program is stopped


if __name__ == "__main__":
    react(main, sys.argv[1:])
