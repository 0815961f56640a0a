"""The picture of the States: real sessions, brought into each State and told each command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from generated import listTable
from twisted.cred.portal import Portal
from twisted.internet.address import IPv4Address
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport

from mailsrv import MemoryStore, SinkDirectory, SmtpServerFactory, standardExtensions
from mailsrv.extensions.auth import AuthServer
from mailsrv.extensions.starttls import StartTlsServer

HERE = IPv4Address("TCP", "127.0.0.1", 25)
READY = ("EHLO client.example.org",)
MAIL = (*READY, "MAIL FROM:<a@example.org>")
RCPT = (*MAIL, "RCPT TO:<b@example.com>")
# How a session comes into each State that reads commands.
WAYS = {
    "CONNECTED": (),
    "READY": READY,
    "MAIL": MAIL,
    "RCPT": RCPT,
    "CHUNKS": (*RCPT, "BDAT 0"),
}
# What is shown of a command, and what is said.
COMMANDS = {
    "HELO": "HELO client.example.org",
    "EHLO": READY[0],
    "MAIL": MAIL[-1],
    "RCPT": RCPT[-1],
    "DATA": "DATA",
    "BDAT n": "BDAT 7\r\nHello",
    "BDAT n LAST": "BDAT 7 LAST\r\nHello",
    "RSET": "RSET",
    "STARTTLS": "STARTTLS",
    "AUTH": "AUTH PLAIN",
    "NOOP VRFY EXPN HELP": "NOOP",
    "QUIT": "QUIT",
}
# States that read octets or wait: what ends them.
OTHERS = (
    ("GREETING", "a policy, or the PROXY header, is awaited", "CONNECTED"),
    ("DATA", "CRLF.CRLF", "STORING; RCPT after 500 line too long"),
    ("CHUNK", "the last octet", "CHUNKS; STORING after LAST"),
    ("STORING", "COMMIT, or what prevents it", "READY"),
    ("LINES", "the last line of the dialogue", "the State before it"),
    ("TLS", "the handshake", "CONNECTED"),
    ("CLOSED", "", ""),
)


class Transport(StringTransport):
    """Takes part in STARTTLS without doing anything."""

    def startTLS(self, *args: Any) -> None:
        """Nothing: the State is what counts."""


def sessionAfter(*lines: str) -> tuple[str, str]:
    """The code of the last reply, and the State the session is in."""
    clock = Clock()
    factory = SmtpServerFactory(
        MemoryStore(),
        SinkDirectory(),
        clock,
        hostname="mx.example.com",
        extensions=[
            *standardExtensions(),
            StartTlsServer(True),
            AuthServer(Portal(None), clock, allowInsecure=True),
        ],
        tls=object(),
    )
    protocol = factory.buildProtocol(HERE)
    wire = Transport(hostAddress=HERE, peerAddress=HERE)
    protocol.makeConnection(wire)
    for line in lines:
        wire.clear()
        protocol.dataReceived(f"{line}\r\n".encode())
        clock.advance(0)  # replies go out when the reactor's turn ends
    replies = wire.value().decode().splitlines()
    return (replies[-1][:3] if replies else ""), protocol.session.state.name


def picture() -> str:
    """What each command does in each State that reads commands."""
    rows = []
    for name, command in COMMANDS.items():
        cells = []
        for state, way in WAYS.items():
            code, after = sessionAfter(*way, command)
            cells.append(f"{code} → **{after}**".strip() if after != state else code)
        rows.append((f"``{name}``", *cells))
    return listTable(("", *WAYS), rows, "15 17 17 17 17 17")


def others() -> str:
    """The States that read no commands."""
    rows = [(f"``{state}``", ending, after) for state, ending, after in OTHERS]
    return listTable(("State", "ends with", "then"), rows, "16 42 42")


GENERATED: dict[str, Callable[[], str]] = {"picture": picture, "others": others}
