"""Every State with every verb, from a table written by hand (protocol.md; RFC 5321 §4.1.4)."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred

from mailsrv.extensions.auth import AuthServer
from mailsrv.extensions.extension import ServerExtension
from mailsrv.extensions.standard import standardExtensions
from mailsrv.extensions.starttls import StartTlsServer
from mailsrv.interfaces import ISession, MaybeDeferredAnswer
from mailsrv.policies.policy import Policy
from mailsrv.server.site import Listener
from mailsrv.server.state import State
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import Command
from mailsrv.testing import HeldStore
from smtpconversation import Client, Server, Wire, addressOf, codesOf

# The code each command is answered, and the State it leads to from wherever it succeeds.
SMTP = """
verb      CONNECTED READY MAIL RCPT CHUNKS  leads to
HELO            250   503  503  503    503  READY
EHLO            250   250  250  250    250  READY
LHLO            500   500  500  500    500  -
MAIL            503   250  503  503    503  MAIL
RCPT            503   503  250  250    503  RCPT
DATA            503   503  503  354    503  DATA
BDAT            503   503  503  250    250  READY
RSET            250   250  250  250    250  READY
NOOP            250   250  250  250    250  -
QUIT            221   221  221  221    221  CLOSED
VRFY            250   250  250  250    250  -
EXPN            250   250  250  250    250  -
HELP            214   214  214  214    214  -
SEND            502   502  502  502    502  -
SOML            502   502  502  502    502  -
SAML            502   502  502  502    502  -
TURN            502   502  502  502    502  -
STARTTLS        503   220  220  220    220  TLS
AUTH            503   334  503  503    503  LINES
XDO             250   250  250  250    250  -
XLINES          354   354  354  354    354  LINES
FOO             500   500  500  500    500  -
"""
LMTP_DIFFERS = """
verb      CONNECTED READY MAIL RCPT CHUNKS  leads to
HELO            500   500  500  500    500  -
EHLO            500   500  500  500    500  -
LHLO            250   250  250  250    250  READY
"""
ARGUMENTS = {
    "HELO": "c",
    "EHLO": "c",
    "LHLO": "c",
    "MAIL": "FROM:<a@b.c>",
    "RCPT": "TO:<alice@example.org>",
    "BDAT": "1 LAST",
    "VRFY": "alice",
    "EXPN": "team",
    "AUTH": "PLAIN",
}
# Where nothing is answered: the octets are something else, or wait.
SILENT = ("GREETING", "DATA", "CHUNK", "STORING", "TLS", "CLOSED")


def cells(table: str) -> dict[tuple[str, str], tuple[int, str]]:
    """(State, verb) -> (code, State after success or '-')."""
    header, *rows = (line.split() for line in table.strip().splitlines())
    return {
        (state, row[0]): (int(code), row[-1])
        for row in rows
        for state, code in zip(header[1:6], row[1:6], strict=True)
    }


VERBS = sorted({verb for _, verb in cells(SMTP)})


def line(verb: str) -> bytes:
    octets = f"{verb} {ARGUMENTS.get(verb, '')}".encode().rstrip() + b"\r\n"
    return octets + b"x" if verb == "BDAT" else octets


class Xtra(ServerExtension):
    """XDO does nothing; XLINES takes lines until one says enough."""

    keyword = "XTRA"
    verbs = {"XDO": 2048, "XLINES": 2048}

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def atCommand(self, session: ISession, command: Command) -> MaybeDeferredAnswer:
        if command.verb == "XDO":
            return r.OK
        session.expectLines(self.take)
        return r.START_MAIL_INPUT

    def take(self, octets: bytes) -> r.Reply:
        self.lines.append(octets)
        return r.OK if octets == b"enough" else r.START_MAIL_INPUT


class Awaited(Policy):
    def __init__(self) -> None:
        self.answer: Deferred[Any] = Deferred()

    def atConnect(self, session: ISession) -> MaybeDeferredAnswer:
        return self.answer


class WireToTls(Wire):
    isTls = False

    def startTLS(self, connectionCreator: Any) -> None:
        self.isTls = True


def clientIn(state: str, isLmtp: bool = False) -> tuple[Server, Client, Xtra, Awaited]:
    """A client whose session is in `state`, with all replies read."""
    testing, policy = Xtra(), Awaited()
    server = Server(
        store=HeldStore() if state == "STORING" else None,
        extensions=[*standardExtensions(), StartTlsServer(), testing],
        policies=[policy] if state == "GREETING" else [],
    )
    auth = AuthServer(Portal(None), server.clock, allowInsecure=True)
    site = server.factory.site
    object.__setattr__(site, "verbOwners", {**site.verbOwners, "AUTH": auth})
    listener = Listener(isLmtp=isLmtp)
    client = server.connectBy(WireToTls(addressOf("127.0.0.1"), addressOf("127.0.0.1")), listener)
    hello = "LHLO c" if isLmtp else "EHLO c"
    sender, recipient = "MAIL FROM:<>", "RCPT TO:<alice@example.org>"
    ways = {
        "GREETING": [],
        "CONNECTED": [],
        "READY": [hello],
        "MAIL": [hello, sender],
        "RCPT": [hello, sender, recipient],
        "CHUNKS": [hello, sender, recipient, "BDAT 0"],
        "DATA": [hello, sender, recipient, "DATA"],
        "CHUNK": [hello, sender, recipient, "BDAT 1000"],
        "LINES": [hello, "XLINES"],
        "STORING": [hello, sender, recipient, "DATA", "."],
        "TLS": [hello, "STARTTLS"],
        "CLOSED": ["QUIT"],
    }
    client.say(*ways[state])
    assert client.protocol.session.state is State[state]
    return server, client, testing, policy


@pytest.mark.parametrize(("cell", "expected"), cells(SMTP).items(), ids=str)
def test_a_command_in_each_state(cell: tuple[str, str], expected: tuple[int, str]) -> None:
    check(*cell, *expected, isLmtp=False)


@pytest.mark.parametrize(
    ("cell", "expected"), {**cells(SMTP), **cells(LMTP_DIFFERS)}.items(), ids=str
)
def test_a_command_in_each_state_of_lmtp(cell: tuple[str, str], expected: tuple[int, str]) -> None:
    check(*cell, *expected, isLmtp=True)


def check(state: str, verb: str, code: int, leadsTo: str, isLmtp: bool) -> None:
    _, client, _, _ = clientIn(state, isLmtp)
    before = client.protocol.session.transaction
    assert codesOf(client.send(line(verb))) == [code]
    session = client.protocol.session
    if code >= 400 or leadsTo == "-":
        assert session.state is State[state]
        assert session.transaction is before, "a refused command changes nothing"
        return
    after = "CONNECTED" if (state, verb) == ("CONNECTED", "RSET") else leadsTo
    assert session.state is State[after]
    if after == "LINES":
        assert session.transaction is before
    else:
        assert (session.transaction is not None) == (after in ("MAIL", "RCPT", "DATA"))
    if after == "TLS":
        assert client.wire.isTls
    if after == "CLOSED":
        assert client.wire.ending == "whole"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("state", SILENT)
def test_where_nothing_is_allowed_nothing_is_answered(state: str, verb: str) -> None:
    server, client, _, policy = clientIn(state)
    assert client.send(line(verb)) == b""
    if state == "GREETING":  # and then it is a command like any other
        policy.answer.callback(None)
        assert codesOf(client.heard())[1] == cells(SMTP)["CONNECTED", verb][0]
    elif state == "STORING":
        server.store.commit()
        assert codesOf(client.heard())[1] == cells(SMTP)["READY", verb][0]
    elif state == "DATA":
        client.say("", ".")
        assert server.store.contents[0].startswith(line(verb))
    elif state == "CHUNK":
        client.send(b"." * (1000 - len(line(verb))) + b"BDAT 0 LAST\r\n")
        assert server.store.contents[0].startswith(line(verb))
    else:
        client.clock.advance(0)
        assert client.heard() == b"", "thrown away"


@pytest.mark.parametrize("verb", VERBS)
def test_within_an_extensions_dialogue_every_line_is_the_extensions(verb: str) -> None:
    _, client, testing, _ = clientIn("LINES")
    octets = line(verb)
    assert codesOf(client.send(octets + b"\r\nenough\r\nNOOP\r\n")) == [354] * (
        octets.count(b"\n") + 1 if verb != "BDAT" else 2
    ) + [250, 250]
    assert testing.lines[0] == octets.split(b"\r\n")[0]


def test_every_state_has_its_row() -> None:
    assert {state for state, _ in cells(SMTP)} | {*SILENT, "LINES"} == {*State.__members__}
