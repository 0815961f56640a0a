"""The ceiling of any Twisted server: lines, raw content, replies at once, content dropped.

    python benchmarks/bare.py

It checks next to nothing and keeps nothing: never an SMTP server for mail.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.protocols.basic import LineReceiver

END = b"\r\n.\r\n"
OK = b"250 OK\r\n"
REPLIES = {
    b"EHLO": b"250-bench\r\n250-PIPELINING\r\n250-SIZE 67108864\r\n250 8BITMIME\r\n",
    b"DATA": b"354 Go on\r\n",
    b"QUIT": b"221 Bye\r\n",
}


class BareSmtp(LineReceiver):
    """Answers every line, finds the end of the content, and keeps nothing of either."""

    delimiter = b"\r\n"
    transport: Any

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self.say(b"220 bench ESMTP\r\n")

    def say(self, reply: bytes) -> None:
        """At once: transport.write waits for the reactor's next turn."""
        sent = self.transport.writeSomeData(reply)
        if isinstance(sent, int) and sent < len(reply):
            self.transport.write(reply[max(sent, 0) :])

    def lineReceived(self, line: bytes) -> None:
        verb = line[:4].upper()
        self.command(verb, line)
        self.say(REPLIES.get(verb, OK))
        if verb == b"DATA":
            self.tail = b"\r\n"  # of DATA itself: content may be a lone dot
            self.setRawMode()
        elif verb == b"QUIT":
            self.transport.loseConnection()

    def rawDataReceived(self, data: bytes) -> None:
        looked = self.tail + data  # the end may have come in two pieces
        end = looked.find(END)
        if end < 0:
            self.tail = looked[-len(END) + 1 :]
            self.content(data)
            return
        rest = looked[end + len(END) :]
        self.content(data[: len(data) - len(rest)])
        self.ended()
        self.setLineMode(rest)

    def command(self, verb: bytes, line: bytes) -> None:
        """What a line does beside being answered."""

    def content(self, data: bytes) -> None:
        """A piece of the content, the final dot's line included."""

    def ended(self) -> None:
        """The content has come to its end: answer."""
        self.say(OK)


def serve(protocol: type[Protocol]) -> None:
    """Listen on a free port, say which on standard output, and run until a signal."""
    from twisted.internet import reactor as installed

    reactor: Any = installed
    factory = Factory.forProtocol(protocol)
    listening = reactor.listenTCP(0, factory, backlog=1024, interface="127.0.0.1")
    print(f"listening on {listening.getHost().port}", flush=True)
    reactor.run()


if __name__ == "__main__":
    serve(BareSmtp)
