"""A program written for twisted.mail, moved over: its IMessageDelivery is as it was.

    python examples/twistedmail.py 2525
Then, for one, with swaks: swaks --server 127.0.0.1:2525 --to support@example.com
"""

import sys

from twisted.internet import defer, endpoints
from twisted.internet.task import react
from twisted.mail import smtp
from zope.interface import implementer

from mailsrv import SmtpServerFactory, TwistedMailDelivery, standardExtensions


@implementer(smtp.IMessage)
class ConsoleMessage:
    def __init__(self):
        self.lines = []

    def lineReceived(self, line):
        self.lines.append(line)

    def eomReceived(self):
        print(b"\n".join(self.lines).decode(errors="replace"), "\n-- ", flush=True)
        return defer.succeed(None)

    def connectionLost(self):
        self.lines = None


@implementer(smtp.IMessageDelivery)
class ConsoleDelivery:
    def receivedHeader(self, helo, origin, recipients):
        return b"Received: from %s for %s" % (helo[0], bytes(recipients[0]))

    def validateFrom(self, helo, origin):
        return origin

    def validateTo(self, user):
        if user.dest.local == b"support":
            return ConsoleMessage
        raise smtp.SMTPBadRcpt(user)


async def main(reactor, port: str) -> None:
    mail = TwistedMailDelivery(ConsoleDelivery(), reactor)
    factory = SmtpServerFactory(
        mail, mail, reactor, hostname="localhost", policies=[mail], extensions=standardExtensions()
    )
    endpoint = endpoints.TCP4ServerEndpoint(reactor, int(port), interface="127.0.0.1")
    listening = await endpoint.listen(factory)
    print(f"listening on {listening.getHost().port}", flush=True)
    reactor.addSystemEventTrigger("before", "shutdown", factory.shutdown)
    await defer.Deferred()  # until the program is stopped


if __name__ == "__main__":
    react(main, sys.argv[1:])
