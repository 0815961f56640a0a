"""The two halves of each extension talk to each other: a real server, a real client, in memory."""

from __future__ import annotations

from typing import Any

import pytest
from test_auth_server import Accounts
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface.verify import verifyObject

from clientconversation import CONTENT, Results, failed
from clientnetwork import certificateFor, trustRoot
from mailsrv.client.envelope import Envelope
from mailsrv.client.transport import EsmtpTransport
from mailsrv.extensions.auth import AuthClient, AuthServer
from mailsrv.extensions.extension import ClientExtension
from mailsrv.extensions.standard import clientExtensions, standardExtensions
from mailsrv.extensions.starttls import StartTlsClient, StartTlsServer, TlsPolicy
from mailsrv.interfaces import IClientExtension, Limits
from mailsrv.server.factory import SmtpServerFactory
from mailsrv.smtp import local
from memorypipe import MemoryPipe
from smtpconversation import RecordingStore, StaticDirectory

pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")


class Both:
    """A server and a client, and what passes between them."""

    def __init__(
        self,
        client: list[Any] | None = None,
        server: tuple[Any, ...] = (),
        hostname: str = "mx.example",
        **limits: Any,
    ) -> None:
        self.clock = Clock()
        self.store = RecordingStore()
        self.factory = SmtpServerFactory(
            self.store,
            StaticDirectory(),
            self.clock,
            hostname="mx.example",
            extensions=[*standardExtensions(), *server],
            limits=Limits(**limits),
            tls=certificateFor("mx.example"),
        )
        self.pipe = MemoryPipe(self.factory, self.clock)
        self.client = EsmtpTransport(
            self.pipe,
            self.clock,
            helo="me.example",
            hostname=hostname,
            extensions=clientExtensions() if client is None else client,
        )

    def connect(self) -> Deferred[None]:
        connected = self.client.connect()
        self.pipe.pump()
        return connected

    def send(
        self, content: Any = CONTENT, to: tuple[str, ...] = ("bob@example.org",), **more: Any
    ) -> Results:
        sending = Results(self.client.send(Envelope("a@example.org", to, content, **more)))
        self.pipe.pump()
        return sending

    @property
    def said(self) -> bytes:
        """What the client has sent so far."""
        return b"".join(self.pipe.client.seen)


def begun(*args: Any, **options: Any) -> Both:
    both = Both(*args, **options)
    connected = both.connect()
    assert connected.called
    assert both.client.isConnected, connected
    return both


def test_all_keep_the_contract():
    auth = AuthClient("a", "b")
    for extension in (
        *clientExtensions(),
        ClientExtension(),
        StartTlsClient(TlsPolicy.VERIFIED),
        auth,
    ):
        verifyObject(IClientExtension, extension)


def test_a_message_arrives_to_the_octet_and_the_connection_takes_another():
    both = begun()
    for number in (1, 2):
        sending = both.send()
        assert sending.result.isDelivered
        assert both.store.contents == [CONTENT] * number
    quitting = both.client.quit()
    both.pipe.pump()
    assert quitting.called
    assert both.factory.connections == 0


def test_pipelining_puts_a_group_in_one_segment():
    both = begun()
    both.send(to=("alice@example.org", "nobody@example.org", "bob@example.org"))
    (group,) = [octets for octets in both.pipe.client.seen if b"MAIL" in octets]
    assert group.count(b"RCPT TO") == 3
    assert group.endswith(b"DATA\r\n")


def test_each_recipient_gets_what_the_server_says_of_it():
    both = begun()
    sending = both.send(
        to=("alice@example.org", "nobody@example.org", "away@example.org", "gone@example.org")
    )
    assert [code for code, _ in sending.codes] == [250, 550, 250, 551]
    assert [each.newAddress for each in sending.result.recipients] == [
        None, None, "away@elsewhere.test", "gone@elsewhere.test",
    ]  # fmt: skip


def test_size_is_declared_and_the_limit_kept():
    both = begun(maxSize=len(CONTENT))
    assert both.send().result.isDelivered
    assert b" SIZE=%d" % len(CONTENT) in both.said
    said = len(both.said)
    assert both.send(CONTENT + b"\r\n").replies == [local.OVER_ITS_LIMIT]
    assert len(both.said) == said


def test_8bitmime():
    both = begun()
    both.send("grün\r\n".encode())
    assert both.store.contents == ["grün\r\n".encode()]
    assert both.store.messages[0].parameters == "SIZE=7 BODY=8BITMIME"


def test_smtputf8():
    both = begun()
    assert both.send(to=("δοκιμή@example.org",)).result.isDelivered
    assert "SMTPUTF8" in both.store.messages[0].parameters
    assert both.store.messages[0].recipients[0].address == "δοκιμή@example.org"


@pytest.mark.parametrize(
    "content", [b"a\nb", b"\r\n.\r\n\n", b"", b".", b"x" * 100_001, bytes(range(256)) * 600]
)
def test_chunking_and_binarymime_carry_any_octets(content):
    both = begun()
    assert both.send(content).result.isDelivered
    assert both.store.contents == [content]
    if content:
        assert b"BDAT %d LAST" % len(content) in both.said
        assert "BODY=BINARYMIME" in both.store.messages[0].parameters


def test_dsn():
    both = begun()
    both.send(
        parameters={"RET": "HDRS", "ENVID": "QQ314159"},
        recipientParameters={
            "bob@example.org": {"NOTIFY": "SUCCESS,DELAY", "ORCPT": "rfc822;b+2B@example.org"}
        },
    )
    message = both.store.messages[0]
    assert "RET=HDRS ENVID=QQ314159" in message.parameters
    assert message.recipients[0].parameters == "NOTIFY=SUCCESS,DELAY ORCPT=rfc822;b+2B@example.org"


@pytest.mark.parametrize("policy", list(TlsPolicy))
def test_starttls(policy):
    tls = StartTlsClient(policy, trustRoot())
    both = begun([tls, *clientExtensions()], (StartTlsServer(),))
    assert both.client.isSecure
    assert both.client.isVerified == (policy is not TlsPolicy.OPPORTUNISTIC)
    assert both.send().result.isDelivered
    assert both.store.messages[0].protocol == "ESMTPS"
    assert b"MAIL" not in both.said
    large = b"x" * 70 + b"\r\n"
    assert both.send(large * 20_000).result.isDelivered
    assert both.store.contents[1] == large * 20_000
    quitting = both.client.quit()
    both.pipe.pump()
    assert quitting.called


def test_starttls_with_the_certificate_of_another():
    tls = StartTlsClient(TlsPolicy.VERIFIED, trustRoot())
    both = Both([tls], (StartTlsServer(),), hostname="other.example")
    assert failed(both.connect()) == local.TLS_FAILED


@pytest.mark.parametrize("password", ["secret", "wrong"])
def test_auth_in_tls(password):
    accounts, clock = Accounts(), Clock()
    server = (StartTlsServer(), AuthServer(Portal(accounts, [accounts]), clock))
    tls = StartTlsClient(TlsPolicy.VERIFIED, trustRoot())
    both = Both([tls, AuthClient("alice@example.org", password), *clientExtensions()], server)
    connected = both.connect()
    clock.advance(2)
    both.pipe.pump()
    if password == "wrong":
        assert failed(connected).code == 535
    else:
        assert connected.called
        assert both.send().result.isDelivered
        assert both.store.messages[0].protocol == "ESMTPSA"
    assert b"AUTH" not in both.said
