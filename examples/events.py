"""Your program is told of each message after its COMMIT, at least once, also after a crash.

    python examples/events.py mail.db 2525

Then, for one, with swaks: swaks --server 127.0.0.1:2525 --to support@example.com
"""

import sys

from twisted.internet import endpoints
from twisted.internet.defer import Deferred
from twisted.internet.task import react

from mailsrv import (
    CallableReceiver,
    ConnectionPool,
    Courier,
    Couriers,
    Event,
    SinkDirectory,
    SmtpServerFactory,
    SqlEvents,
    SqlStore,
    parseUrl,
    standardExtensions,
    upgrade,
)  # fmt: skip


async def opened(event: Event) -> None:
    """Open a ticket. Raise, and the event comes again later; `event.id` tells it is the same."""
    for recipient in event.recipients:
        print(f"{event.sender} to {recipient.address}: {event.summary.subject}", flush=True)


async def main(reactor, path: str, port: str) -> None:
    dialect = parseUrl(f"sqlite:{path}")
    upgrade(dialect)
    receiver = CallableReceiver(opened, "tickets")
    outbox = SqlEvents(ConnectionPool(dialect, reactor, 1, "events"))
    couriers = Couriers([Courier(outbox, receiver, reactor)])
    pool = ConnectionPool(dialect, reactor, 1, "commit")
    store = SqlStore(pool, reactor, destinations=[receiver.destination])
    factory = SmtpServerFactory(
        store, SinkDirectory(), reactor, hostname="localhost", extensions=standardExtensions(),
        observers=[couriers],
    )  # fmt: skip
    endpoint = endpoints.TCP4ServerEndpoint(reactor, int(port), interface="127.0.0.1")
    listening = await endpoint.listen(factory)
    couriers.start()
    print(f"listening on {listening.getHost().port}", flush=True)
    for stop in (factory.shutdown, couriers.stop):
        reactor.addSystemEventTrigger("before", "shutdown", stop)
    reactor.addSystemEventTrigger("during", "shutdown", store.close)
    await Deferred()  # until the program is stopped


if __name__ == "__main__":
    react(main, sys.argv[1:])
