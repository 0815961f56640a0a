"""What a client believes, and whom it tells: TLS against servers that lie."""

from __future__ import annotations

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.endpoints import wrapClientTLS
from twisted.internet.ssl import optionsForClientTLS

from clientconversation import ClientConversation, failed
from clientnetwork import LIMIT, Listening, PeerFactory, certificateFor, trustRoot
from mailsrv.client.envelope import Envelope
from mailsrv.client.transport import EsmtpTransport
from mailsrv.extensions.auth import AuthClient
from mailsrv.extensions.standard import clientExtensions
from mailsrv.extensions.starttls import StartTlsClient, TlsPolicy
from mailsrv.interfaces import UnexpectedReply
from mailsrv.smtp import local
from mailsrv.smtp.reply import reply

# Twisted hands pyOpenSSL its own old objects, which pyOpenSSL is about to drop.
pytestmark = pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")

SECRET = b"AHdhbGRvAGtyb2tvZGls"  # base64 of NUL waldo NUL krokodil
LETTER = Envelope("a@example.org", ("b@example.org",), b"Subject: x\r\n\r\nhello\r\n")
PLAIN_SERVER = {
    "CONNECT": b"220 mx.example\r\n",
    "EHLO": b"250-mx.example\r\n250-AUTH PLAIN\r\n250 STARTTLS\r\n",
    "TLS EHLO": b"250-mx.example\r\n250 AUTH PLAIN\r\n",
    "STARTTLS": lambda peer: peer.startTLS(),
    "AUTH": b"235 2.7.0 ok\r\n",
    "MAIL": b"250 ok\r\n",
    "RCPT": b"250 ok\r\n",
    "DATA": b"354 go\r\n",
    ".": b"250 2.0.0 queued\r\n",
    "QUIT": b"221 bye\r\n",
}
# The lines of the content are no commands.
SILENT = {"SUBJECT:": b"", "": b"", "HELLO": b""}


def transport(endpoint, policy, *, withLogin=True, hostname="mx.example", roots=True):
    login = [AuthClient("waldo", "krokodil")] if withLogin else []
    tls = StartTlsClient(policy, trustRoot() if roots else None)
    return EsmtpTransport(
        endpoint,
        reactor,
        helo="me.example",
        hostname=hostname,
        extensions=[tls, *login, *clientExtensions()],
    )


async def conversation(script, policy, **options):
    """The Reply that each recipient, or connect(), got, and what the server heard."""
    factory = PeerFactory({**SILENT, **PLAIN_SERVER, **script})
    async with Listening(factory) as endpoint:
        client = transport(endpoint, policy, **options)
        try:
            await client.connect().addTimeout(LIMIT, reactor)
            result = await client.send(LETTER).addTimeout(LIMIT, reactor)
            answer = result.recipients[0].reply
        except UnexpectedReply as refused:
            answer = refused.reply
        client.abort()
        for peer in factory.peers:
            peer.transport.abortConnection()
        if factory.peers:
            await factory.gone.addTimeout(LIMIT, reactor)
    return answer, b"\n".join(factory.clear), b"\n".join(factory.secure)


@pytest_twisted.ensureDeferred
async def test_credentials_and_mail_go_in_tls():
    answer, clear, secure = await conversation({}, TlsPolicy.VERIFIED)
    assert answer == reply(250, "2.0.0", "queued")
    assert clear == b"EHLO me.example\nSTARTTLS"
    assert secure.startswith(b"EHLO me.example\nAUTH PLAIN " + SECRET + b"\nMAIL FROM:")


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ({"EHLO": b"250-mx\r\n250 AUTH PLAIN\r\n"}, local.TLS_NOT_OFFERED),
        ({"EHLO": b"500 what\r\n", "HELO": b"250 mx\r\n"}, local.TLS_NOT_OFFERED),
        ({"STARTTLS": b"454 4.7.0 not now\r\n"}, local.TLS_REFUSED),
        ({"STARTTLS": b"502 5.5.1 never\r\n"}, local.TLS_REFUSED),
        ({"STARTTLS": b"250 sure\r\n"}, local.TLS_REFUSED),
        ({"STARTTLS": lambda peer: peer.transport.abortConnection()}, local.TLS_REFUSED),
        ({"STARTTLS": lambda peer: peer.startTLS(host="other.example")}, local.TLS_FAILED),
        (
            {"STARTTLS": lambda peer: peer.startTLS(b"220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n")},
            local.INJECTED_REPLY,
        ),
        ({"STARTTLS": b"220 go\r\n2"}, local.INJECTED_REPLY),
        ({"STARTTLS": b"220 go\r\n", "\x16\x03\x01": b""}, None),
    ],
    ids=[
        "stripped", "no EHLO", "4yz", "5yz", "250", "drop", "wrong name", "injected", "begun", "no TLS",
    ],
)  # fmt: skip
@pytest_twisted.ensureDeferred
async def test_where_tls_is_required_nothing_is_told_to_a_server_that_has_none(script, fault):
    if fault is None:
        script = {"STARTTLS": lambda peer: peer.transport.write(b"220 go\r\n") or later(peer)}
        fault = local.TLS_FAILED
    answer, clear, secure = await conversation(script, TlsPolicy.VERIFIED)
    assert answer == fault
    for heard in (clear, secure):
        assert SECRET not in heard
        assert b"MAIL" not in heard
        assert b"AUTH" not in heard


def later(peer) -> None:
    """Octets that are no TLS, once the client has begun its handshake."""
    peer.setRawMode()
    peer.rawDataReceived = lambda data: peer.transport.write(b"250 injected\r\n" * 20)


@pytest_twisted.ensureDeferred
async def test_a_certificate_nobody_we_trust_has_signed():
    answer, clear, secure = await conversation({}, TlsPolicy.VERIFIED, roots=False)
    assert answer == local.TLS_FAILED
    assert SECRET not in clear + secure


@pytest_twisted.ensureDeferred
async def test_credentials_are_not_given_to_a_host_that_was_not_verified():
    answer, clear, secure = await conversation({}, TlsPolicy.OPPORTUNISTIC)
    assert answer == local.TLS_FOR_CREDENTIALS
    assert b"AUTH" not in clear + secure


@pytest.mark.parametrize("hostname", ["mx.example", "", "127.0.0.1"])
@pytest_twisted.ensureDeferred
async def test_opportunistic_tls_is_used_with_whatever_certificate(hostname):
    script = {"STARTTLS": lambda peer: peer.startTLS(host="other.example")}
    answer, clear, secure = await conversation(
        script, TlsPolicy.OPPORTUNISTIC, withLogin=False, roots=False, hostname=hostname
    )
    assert answer == reply(250, "2.0.0", "queued")
    assert clear == b"EHLO me.example\nSTARTTLS"
    assert b"MAIL FROM" in secure


@pytest.mark.parametrize(
    "script",
    [{"EHLO": b"250 mx\r\n"}, {"STARTTLS": b"454 no\r\n"}, {"STARTTLS": b"502 no\r\n"}],
)
@pytest_twisted.ensureDeferred
async def test_opportunistic_tls_does_without(script):
    answer, clear, _ = await conversation(script, TlsPolicy.OPPORTUNISTIC, withLogin=False)
    assert answer == reply(250, "2.0.0", "queued")
    assert b"MAIL FROM" in clear


@pytest_twisted.ensureDeferred
async def test_opportunistic_tls_does_not_believe_what_was_injected_either():
    script = {"STARTTLS": lambda peer: peer.startTLS(b"220 go\r\n250 injected\r\n")}
    answer, clear, secure = await conversation(script, TlsPolicy.OPPORTUNISTIC, withLogin=False)
    assert answer == local.INJECTED_REPLY
    assert b"MAIL" not in clear + secure


@pytest_twisted.ensureDeferred
async def test_what_was_offered_before_tls_is_forgotten():
    script = {
        "EHLO": b"250-mx\r\n250-PIPELINING\r\n250-SIZE 1\r\n250 STARTTLS\r\n",
        "TLS EHLO": b"250 mx\r\n",
    }
    answer, _, secure = await conversation(script, TlsPolicy.VERIFIED, withLogin=False)
    assert answer == reply(250, "2.0.0", "queued")
    assert b"SIZE" not in secure


@pytest_twisted.ensureDeferred
async def test_tls_from_the_first_octet_is_verified_by_the_endpoint():
    script = {**SILENT, **PLAIN_SERVER, "EHLO": b"250-mx\r\n250 AUTH PLAIN\r\n"}
    factory = PeerFactory(script)
    from twisted.protocols.tls import TLSMemoryBIOFactory

    async with Listening(
        TLSMemoryBIOFactory(certificateFor("mx.example"), False, factory)
    ) as plain:
        for hostname, isGood in (("mx.example", True), ("other.example", False)):
            creator = optionsForClientTLS(hostname, trustRoot=trustRoot())
            client = transport(wrapClientTLS(creator, plain), TlsPolicy.VERIFIED)
            connecting = client.connect().addTimeout(LIMIT, reactor)
            if isGood:
                await connecting
                assert client.isSecure
                assert client.isVerified
                await client.quit().addTimeout(LIMIT, reactor)
                assert factory.clear[1] == b"AUTH PLAIN " + SECRET
                await factory.gone
                from twisted.internet.defer import Deferred

                factory.gone = Deferred()
            else:
                with pytest.raises(UnexpectedReply):
                    await connecting
                await factory.gone
    assert len(factory.clear) == 3


# In memory


def test_a_verified_host_needs_a_name():
    it = ClientConversation([StartTlsClient(TlsPolicy.VERIFIED)])
    connected = it.connect(b"250-mx\r\n250 STARTTLS\r\n")
    faults = []
    connected.addErrback(faults.append)
    assert faults[0].check(ValueError)
    it.hear(b"QUIT\r\n")


def test_a_421_to_starttls_is_the_end_of_the_opportunity():
    it = ClientConversation([StartTlsClient(TlsPolicy.OPPORTUNISTIC)])
    connected = it.connect(b"250-mx\r\n250 STARTTLS\r\n")
    it.say(b"421 4.3.2 mx closing\r\n")
    assert failed(connected) == reply(421, "4.3.2", "mx closing")


def test_a_context_that_cannot_be_made():
    def fail(creator):
        raise ValueError("no such cipher")

    it = ClientConversation([StartTlsClient(TlsPolicy.OPPORTUNISTIC)])
    it.wire.startTLS = fail
    connected = it.connect(b"250-mx\r\n250 STARTTLS\r\n")
    it.say(b"220 go\r\n")
    assert failed(connected) == local.TLS_FAILED
    assert it.wire.ending == "aborted"


@pytest.mark.parametrize("ending", ["timeout", "abort", "drop", "cancel"])
def test_a_handshake_that_does_not_end(ending):
    it = ClientConversation([StartTlsClient(TlsPolicy.OPPORTUNISTIC)], hostname="mx.example")
    it.wire.startTLS = lambda creator: None
    connected = it.connect(b"250-mx\r\n250 STARTTLS\r\n")
    it.say(b"220 go\r\n")
    {
        "timeout": lambda: it.clock.advance(300.1),
        "abort": it.client.abort,
        "drop": it.drop,
        "cancel": connected.cancel,
    }[ending]()
    assert failed(connected) == {
        "timeout": local.NO_REPLY_IN_TIME,
        "drop": local.TLS_FAILED,
    }.get(ending, local.ABORTED)
    assert it.wire.ending
    assert it.clock.getDelayedCalls() == []


@pytest.mark.parametrize(
    ("script", "fault"),
    [
        ({"STARTTLS": b"454 4.7.0 not now\r\n"}, local.TLS_REFUSED),
        ({"STARTTLS": lambda peer: peer.startTLS(host="other.example")}, local.TLS_FAILED),
    ],
    ids=["refused", "wrong name"],
)
@pytest_twisted.ensureDeferred
async def test_tls_that_is_offered_must_hold_where_it_is_to_be_verified(script, fault):
    answer, clear, secure = await conversation(script, TlsPolicy.OFFERED, withLogin=False)
    assert answer == fault
    assert b"MAIL" not in clear + secure


@pytest_twisted.ensureDeferred
async def test_tls_that_is_not_offered_is_not_missed_where_it_need_not_be():
    script = {"EHLO": b"250 mx.example\r\n"}
    answer, clear, _ = await conversation(script, TlsPolicy.OFFERED, withLogin=False)
    assert answer == reply(250, "2.0.0", "queued")
    assert b"MAIL" in clear
    answer, clear, _ = await conversation(script, TlsPolicy.OFFERED)
    assert answer == local.TLS_FOR_CREDENTIALS
    assert b"AUTH" not in clear
