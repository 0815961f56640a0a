"""A client that has said all it has to say, and closes its side, still hears every answer.

Exim does so behind the last chunk and QUIT; so does a script that pipes into nc.
"""

from __future__ import annotations

import smtplib
import socket

import pytest

from integration.realserver import LIMIT, StartServer
from integration.test_proxy import PROXIED, StartProxy, startProxy  # noqa: F401  a fixture

ENVELOPE = b"EHLO c\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\n"
CONTENTS = {
    "data": b"DATA\r\nSubject: x\r\n\r\nHello\r\n.\r\n",
    "chunk": b"BDAT 19 LAST\r\nSubject: x\r\n\r\nHello",
}


def everything(connection: socket.socket) -> list[bytes]:
    """The codes of all replies until the server closes."""
    with connection, connection.makefile("rb") as file:
        return [line[:3] for line in file if line[3:4] == b" "]


@pytest.mark.parametrize("content", list(CONTENTS))
@pytest.mark.parametrize("end", [b"QUIT\r\n", b""], ids=["quit", "no quit"])
def test_all_that_was_said_is_answered(startServer: StartServer, content: str, end: bytes) -> None:
    server = startServer()
    connection = server.connect()
    connection.sendall(ENVELOPE + CONTENTS[content] + end)
    connection.shutdown(socket.SHUT_WR)
    wanted = [b"220", b"250", b"250", b"250", *([b"354"] if content == "data" else []), b"250"]
    assert everything(connection) == wanted + ([b"221"] if end else [])
    assert server.rows("SELECT count(*) FROM messages") == [(1,)]


def test_more_commands_than_a_turn_takes(startServer: StartServer) -> None:
    connection = startServer().connect()
    connection.sendall(b"NOOP\r\n" * 1000)
    connection.shutdown(socket.SHUT_WR)
    assert everything(connection) == [b"220"] + [b"250"] * 1000


@pytest.mark.parametrize("half", [b"", b"NOO", ENVELOPE + b"DATA\r\nhalf a mess"])
def test_what_is_not_whole_is_given_up(startServer: StartServer, half: bytes) -> None:
    server = startServer()
    connection = server.connect()
    connection.sendall(half)
    connection.shutdown(socket.SHUT_WR)
    everything(connection)  # it ends
    assert server.rows("SELECT count(*) FROM messages") == [(0,)]


def test_through_a_proxy_too(
    startServer: StartServer,
    startProxy: StartProxy,  # noqa: F811
) -> None:
    server = startServer(*PROXIED)
    front = startProxy("send-proxy-v2", server.port)
    connection = socket.create_connection(("127.0.0.1", front), LIMIT)
    connection.sendall(ENVELOPE + CONTENTS["data"] + b"QUIT\r\n")
    connection.shutdown(socket.SHUT_WR)
    assert everything(connection)[-2:] == [b"250", b"221"]


def test_others_are_served_while_one_does_not_read(startServer: StartServer) -> None:
    server = startServer()
    connection = server.connect()
    connection.sendall(b"VRFY a\r\n" * 20_000)
    connection.shutdown(socket.SHUT_WR)
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as other:
        assert other.noop()[0] == 250
    assert everything(connection) == [b"220"] + [b"252"] * 20_000
