"""Behind HAProxy: the client is whom the PROXY header names, and it is greeted after it."""

from __future__ import annotations

import pytest

from mailsrv.server.proxied import ProxiedFactory
from mailsrv.server.site import Listener
from smtpconversation import Client, Server, Wire, addressOf, codesOf

V1 = b"PROXY TCP4 198.51.100.9 192.0.2.1 50000 25\r\n"
V2 = (
    b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c"
    + bytes([198, 51, 100, 9, 192, 0, 2, 1])
    + (50000).to_bytes(2, "big")
    + (25).to_bytes(2, "big")
)


def connect(**options: int) -> Client:
    server = Server(**options)
    factory = ProxiedFactory(server.factory.forListener(Listener(isProxied=True)))
    wire = Wire(addressOf("192.0.2.1", 25), addressOf("10.0.0.1"))
    wrapper = factory.buildProtocol(wire.getPeer())
    wrapper.makeConnection(wire)
    return Client(wrapper, wire, server.clock)


def sessionOf(client: Client) -> object:
    return client.protocol.wrappedProtocol.session


@pytest.mark.parametrize("header", [V1, V2], ids=["v1", "v2"])
def test_it_is_greeted_after_the_header_however_that_is_cut(header: bytes) -> None:
    for cut in range(len(header)):
        client = connect()
        assert client.send(header[:cut]) == b""
        assert codesOf(client.send(header[cut:])) == [220], cut
        assert codesOf(client.send(b"NOOP\r\n")) == [250]
        assert sessionOf(client).peer == "198.51.100.9"
    client = connect()
    for octet in header:
        client.send(bytes([octet]))
    assert codesOf(client.everything()) == [220]


def test_commands_in_the_headers_segment_are_carried_out() -> None:
    assert codesOf(connect().send(V1 + b"NOOP\r\n")) == [220, 250]


def test_clients_are_counted_by_their_own_address() -> None:
    client = connect(maxConnectionsPerClient=1)
    client.send(V1)
    server = client.protocol.wrappedProtocol.factory
    assert list(server._clients) == ["198.51.100.9"]


def test_who_sends_no_header_is_closed_unheard() -> None:
    client = connect()
    assert client.send(b"EHLO client.example.net\r\nNOOP\r\n") == b""
    assert not client.isOpen


def test_a_header_that_does_not_come_is_not_waited_for_for_ever() -> None:
    client = connect()
    client.clock.advance(31)
    assert client.wire.ending == "aborted"
