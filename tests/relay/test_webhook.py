"""Webhooks: what is sent, how it is signed, what an answer means, and receivers that misbehave."""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from OpenSSL import SSL
from twisted.internet import defer, protocol
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailsrv.interfaces import Event, EventRefused, IEventReceiver
from mailsrv.relay import webhook
from mailsrv.relay.webhook import (
    MAX_RAW,
    SECRET_FILE_VARIABLE,
    SECRET_VARIABLE,
    Webhook,
    WebhookReceiver,
    parseWebhook,
    payload,
    readSecrets,
    retryAfter,
    signature,
)
from mailsrv.smtp.message import Recipient, Summary

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LIMIT = 20.0  # seconds a test may take
KEY = bytes(range(32))
SECRET = "whsec_" + base64.b64encode(KEY).decode()
EVENT = Event(
    key=1,
    id="01J8ZC0000000000000000000A",
    attempt=1,
    putUpAt=NOW,
    receivedAt=NOW,
    sender="alice@example.org",
    recipients=(Recipient("bob@example.com", 7, "NOTIFY=NEVER"), Recipient("eve@example.com")),
    summary=Summary("héllo", datetime(2026, 1, 1, tzinfo=UTC), "text \udcff\n", "<1@example.org>"),
    size=100,
    sha256="ab" * 32,
    parameters="SIZE=100",
    helo="client.example",
    peer="192.0.2.1",
    protocol="ESMTP",
)


# The URL


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://app.example.com/mail", Webhook("https://app.example.com/mail")),
        ("http://127.0.0.1:8000", Webhook("http://127.0.0.1:8000/")),
        ("https://a.example/x?y=1#raw", Webhook("https://a.example/x?y=1", 1 << 20)),
        ("https://a.example/#raw=5000", Webhook("https://a.example/", 5000)),
        ("https://me:p%40ss@a.example/", Webhook("https://a.example/", 0, ("me", "p@ss"))),
    ],
)
def test_a_url_says_where_and_how_much(text: str, expected: Webhook) -> None:
    assert parseWebhook(text) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not a URL"),
        ("app.example.com/mail", "not a URL"),
        ("ftp://app.example.com/", "not a URL"),
        ("https:///mail", "not a URL"),
        ("https://me:secret@a.example:port/", "not a URL"),
        ("https://[::1/", "not a URL"),
        ("https://a.example/a b", "not a URL"),
        ("https://a.example/\r\n", "not a URL"),
        ("https://a.example/#row", "only raw"),
        ("https://a.example/#raw=much", "only raw"),
        (f"https://a.example/#raw={MAX_RAW + 1}", "too much"),
        ("https://a.example/" + "x" * 250, "longer than 255"),
    ],
)
def test_what_is_no_url_is_said_in_one_line_without_its_password(text: str, why: str) -> None:
    with pytest.raises(ValueError, match=why) as caught:
        parseWebhook(text)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    assert "p@ss" not in repr(parseWebhook("https://me:p%40ss@a.example/"))


# The secret


def test_secrets_come_from_the_environment_or_a_file(tmp_path: Path) -> None:
    other = "whsec_" + base64.b64encode(b"o" * 24).decode()
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n{other}\n")
    assert readSecrets({}) == ()
    assert readSecrets({SECRET_VARIABLE: SECRET}) == (KEY,)
    assert readSecrets({SECRET_FILE_VARIABLE: str(file)}) == (KEY, b"o" * 24)
    assert readSecrets({SECRET_VARIABLE: other, SECRET_FILE_VARIABLE: str(file)}) == (b"o" * 24,)


@pytest.mark.parametrize(
    "text", ["hunter2", "whsec_***", "whsec_aGk=", "whsec_" + "A" * 400, "whsec_é"]
)
def test_a_secret_that_will_not_do_is_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="openssl rand") as caught:
        readSecrets({SECRET_VARIABLE: text})
    assert text not in str(caught.value)


def test_a_secret_file_that_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="No such file"):
        readSecrets({SECRET_FILE_VARIABLE: str(tmp_path / "none")})
    (tmp_path / "binary").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="not text"):
        readSecrets({SECRET_FILE_VARIABLE: str(tmp_path / "binary")})


# What is sent


def test_the_payload_is_json_of_all_there_is() -> None:
    assert json.loads(payload(EVENT)) == {
        "id": "01J8ZC0000000000000000000A",
        "type": "message.stored",
        "timestamp": "2026-01-02T03:04:05Z",
        "envelope": {
            "sender": "alice@example.org",
            "parameters": "SIZE=100",
            "recipients": [
                {"address": "bob@example.com", "mailbox": 7, "parameters": "NOTIFY=NEVER"},
                {"address": "eve@example.com", "mailbox": None, "parameters": ""},
            ],
        },
        "subject": "héllo",
        "date": "2026-01-01T00:00:00Z",
        "text": "text \udcff\n",
        "message_id": "<1@example.org>",
        "size": 100,
        "sha256": "ab" * 32,
        "peer": "192.0.2.1",
        "helo": "client.example",
        "protocol": "ESMTP",
    }


def test_what_a_message_lacks_is_null_and_its_raw_octets_are_base64() -> None:
    octets = bytes(range(256))
    shown = json.loads(payload(replace(EVENT, summary=Summary(), raw=octets)))
    assert [shown[key] for key in ("subject", "date", "text", "message_id")] == [None] * 4
    assert base64.b64decode(shown["raw"]) == octets


def test_the_signature_is_that_of_the_published_example() -> None:
    """The vector in the documentation of Standard Webhooks' own libraries."""
    [secret] = readSecrets({SECRET_VARIABLE: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"})
    signed = signature(
        [secret], "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert signed == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 5 ", 5.0),
        ("9" * 400, 999_999_999.0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Fri, 02 Jan 2026 03:05:05 -0000", 60.0),
        ("Fri, 02 Jan 2026 04:05:05 +0100", 60.0),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("²", None),
        ("Fri, 99 Jan 2026 03:05:05 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    assert retryAfter(value, NOW) == seconds


# A real receiver


@dataclass
class Got:
    headers: dict[str, str]
    body: bytes
    path: bytes


class Application(Resource):
    """A web application that keeps what it got and answers as the test says."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.got: list[Got] = []
        self.answer: Callable[[Request], bytes | int] = lambda request: b"thanks"

    def render_POST(self, request: Request) -> bytes | int:
        headers = {
            name.decode().lower(): values[-1].decode()
            for name, values in request.requestHeaders.getAllRawHeaders()
        }
        self.got.append(Got(headers, request.content.read(), request.uri))
        return self.answer(request)

    def says(self, code: int, body: bytes = b"", **headers: str) -> None:
        def answer(request: Request) -> bytes:
            request.setResponseCode(code)
            for name, value in headers.items():
                request.setHeader(name.replace("_", "-"), value)
            return body

        self.answer = answer


class QuietSite(Site):
    noisy = False

    def log(self, request: Request) -> None:
        """No log file."""


class Receiving:
    """A web application on loopback and the receiver that talks to it."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.application = Application()
        self.site = QuietSite(self.application)
        self.port = reactor.listenTCP(0, self.site, interface="127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port.getHost().port}/mail"
        self.receivers: list[WebhookReceiver] = []

    def receiver(self, text: str = "", secrets: tuple[bytes, ...] = (KEY,)) -> WebhookReceiver:
        hook = parseWebhook(text or self.url)
        receiver = WebhookReceiver(hook, secrets, self.reactor, lambda: NOW)
        self.receivers.append(receiver)
        return receiver

    async def send(self, *args: Any, event: Event = EVENT, **kw: Any) -> None:
        await self.receiver(*args, **kw).receive(event).addTimeout(LIMIT, self.reactor)

    async def refusal(self, *args: Any, **kw: Any) -> EventRefused:
        with pytest.raises(EventRefused) as caught:
            await self.send(*args, **kw)
        return caught.value

    async def close(self) -> None:
        for receiver in self.receivers:
            await receiver.close()
        await defer.maybeDeferred(self.port.stopListening)


@pytest_twisted.async_yield_fixture
async def receiving() -> AsyncIterator[Receiving]:
    receiving = Receiving()
    yield receiving
    await receiving.close()


@pytest_twisted.ensureDeferred
async def test_an_event_is_one_signed_post(receiving: Receiving) -> None:
    verifyObject(IEventReceiver, receiving.receiver())
    await receiving.send(event=replace(EVENT, raw=b"x" * 300_000))
    [got] = receiving.application.got
    assert got.path == b"/mail"
    headers = got.headers
    assert headers["content-type"] == "application/json"
    assert headers["webhook-id"] == EVENT.id == json.loads(got.body)["id"]
    assert headers["webhook-timestamp"] == "1767323045" == str(int(NOW.timestamp()))
    # Computed here as the receiver of any other product's webhooks would.
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + got.body
    digest = hmac.new(base64.b64decode(SECRET.split("_")[1]), content, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(digest).decode()
    assert "authorization" not in headers


@pytest_twisted.ensureDeferred
async def test_two_secrets_are_two_signatures_and_none_is_none(receiving: Receiving) -> None:
    await receiving.send(secrets=(KEY, b"o" * 24))
    await receiving.send(secrets=())
    first, second = receiving.application.got
    assert len(first.headers["webhook-signature"].split(" v1,")) == 2
    assert "webhook-signature" not in second.headers


@pytest_twisted.ensureDeferred
async def test_a_login_in_the_url_is_basic_authentication_and_a_fragment_stays_here(
    receiving: Receiving,
) -> None:
    await receiving.send(receiving.url.replace("//", "//me:p%3Ass@") + "?a=b#raw")
    [got] = receiving.application.got
    assert base64.b64decode(got.headers["authorization"].split()[1]) == b"me:p:ss"
    assert got.path == b"/mail?a=b"


@pytest.mark.parametrize("code", [200, 201, 202, 204])
@pytest_twisted.ensureDeferred
async def test_any_2yz_takes_the_event(receiving: Receiving, code: int) -> None:
    receiving.application.says(code)
    await receiving.send()


@pytest.mark.parametrize("code", [301, 307, 308, 400, 404, 413, 429, 500, 503])
@pytest_twisted.ensureDeferred
async def test_anything_else_refuses_it_for_now(receiving: Receiving, code: int) -> None:
    receiving.application.says(code, b"no\n\twonder\x1b " + b"x" * 1000, location=receiving.url)
    refused = await receiving.refusal()
    assert str(refused).startswith(f"HTTP {code}: no wonder\ufffd xxx")
    assert len(str(refused)) < 300
    assert not refused.isGone
    assert len(receiving.application.got) == 1  # a redirect is not followed


@pytest_twisted.ensureDeferred
async def test_410_refuses_it_for_ever(receiving: Receiving) -> None:
    receiving.application.says(410)
    refused = await receiving.refusal()
    assert (str(refused), refused.isGone, refused.retryAfter) == ("HTTP 410", True, None)


@pytest_twisted.ensureDeferred
async def test_a_wish_for_later_is_passed_on(receiving: Receiving) -> None:
    receiving.application.says(503, retry_after="77")
    assert (await receiving.refusal()).retryAfter == 77.0


@pytest_twisted.ensureDeferred
async def test_cookies_do_not_come_back(receiving: Receiving) -> None:
    receiving.application.says(200, set_cookie="a=b")
    receiver = receiving.receiver()
    for _ in range(2):
        await receiver.receive(EVENT)
    assert "cookie" not in receiving.application.got[1].headers


@pytest_twisted.ensureDeferred
async def test_what_is_packed_is_not_unpacked(receiving: Receiving) -> None:
    bomb = gzip.compress(b"A" * 10_000_000)
    receiving.application.says(500, bomb, content_encoding="gzip")
    assert "AAAA" not in str(await receiving.refusal())
    receiving.application.says(200, b"no gzip at all", content_encoding="gzip")
    await receiving.send()


@pytest_twisted.ensureDeferred
async def test_an_answer_of_any_length_is_its_status(receiving: Receiving) -> None:
    receiving.application.says(200, b"x" * 5_000_000)
    await receiving.send()
    receiving.application.says(500, b"x" * 5_000_000)
    assert str(await receiving.refusal()).startswith("HTTP 500: xxx")


# Receivers that misbehave


async def connectionsGone(receiving: Receiving, gone: Deferred[Any]) -> None:
    await gone.addTimeout(LIMIT, receiving.reactor)


@pytest_twisted.ensureDeferred
async def test_who_sends_a_body_without_an_end_is_hung_up_on(receiving: Receiving) -> None:
    gone: Deferred[Any] = Deferred()

    def answer(request: Request) -> int:
        request.notifyFinish().addErrback(lambda _: gone.callback(None))

        def more() -> None:
            if not gone.called:
                request.write(b"x" * 10_000)
                receiving.reactor.callLater(0, more)

        more()
        return NOT_DONE_YET

    receiving.application.answer = answer
    await receiving.send()
    await connectionsGone(receiving, gone)


@pytest_twisted.ensureDeferred
async def test_who_begins_a_body_and_falls_silent_is_hung_up_on(
    receiving: Receiving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "ANSWER_TIME", 0.05)
    gone: Deferred[Any] = Deferred()

    def answer(request: Request) -> int:
        request.setResponseCode(500)
        request.write(b"one moment")
        request.notifyFinish().addErrback(lambda _: gone.callback(None))
        return NOT_DONE_YET

    receiving.application.answer = answer
    assert str(await receiving.refusal()) == "HTTP 500: one moment"
    await connectionsGone(receiving, gone)


@pytest.mark.parametrize("begins", [False, True])
@pytest_twisted.ensureDeferred
async def test_who_never_answers_is_hung_up_on_when_the_courier_gives_up(
    receiving: Receiving, begins: bool
) -> None:
    gone: Deferred[Any] = Deferred()
    asked: Deferred[None] = Deferred()

    def answer(request: Request) -> int:
        if begins:
            request.write(b"one moment")
        request.notifyFinish().addErrback(lambda _: gone.callback(None))
        receiving.reactor.callLater(0.05, asked.callback, None)
        return NOT_DONE_YET

    receiving.application.answer = answer
    sent = receiving.receiver().receive(EVENT)
    await asked
    assert not sent.called
    sent.cancel()
    with pytest.raises(defer.CancelledError):
        await sent
    await connectionsGone(receiving, gone)


class Speaker(protocol.Protocol):
    """Says something whatever it is asked, and hangs up."""

    def dataReceived(self, data: bytes) -> None:
        self.transport.write(self.factory.says)
        self.transport.loseConnection()


@pytest.fixture
def speak(receiving: Receiving) -> Iterator[Callable[[bytes], str]]:
    ports = []

    def speak(says: bytes) -> str:
        factory = protocol.Factory.forProtocol(Speaker)
        factory.noisy = False
        factory.says = says
        ports.append(receiving.reactor.listenTCP(0, factory, interface="127.0.0.1"))
        return f"http://127.0.0.1:{ports[-1].getHost().port}/"

    yield speak
    for port in ports:
        pytest_twisted.blockon(defer.maybeDeferred(port.stopListening))


@pytest.mark.parametrize(
    "says",
    [
        b"",
        b"\0\0\0\0",
        b"220 mail.example.com ESMTP\r\n",
        b"HTTP/1.1 200",
        b"HTTP/1.1 two hundred\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
)
@pytest_twisted.ensureDeferred
async def test_who_speaks_no_http_has_not_taken_the_event(
    receiving: Receiving, speak: Callable[[bytes], str], says: bytes
) -> None:
    refused = await receiving.refusal(speak(says))
    assert "\n" not in str(refused)
    assert str(refused)


@pytest_twisted.ensureDeferred
async def test_an_answer_cut_off_in_its_body_is_its_status(
    receiving: Receiving, speak: Callable[[bytes], str]
) -> None:
    await receiving.send(speak(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"))


@pytest_twisted.ensureDeferred
async def test_a_receiver_that_is_not_there_is_said_in_words(receiving: Receiving) -> None:
    await receiving.port.stopListening()
    assert "refused" in str(await receiving.refusal())


# TLS


@implementer(IOpenSSLServerConnectionCreator)
class SelfSigned:
    """A certificate for `name` that signs itself, made for this test; serves TLS with it."""

    def __init__(self, directory: Path, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        day = timedelta(days=1)
        certificate = (
            x509.CertificateBuilder(subject, subject, key.public_key(), 1)
            .not_valid_before(datetime.now(UTC) - day)
            .not_valid_after(datetime.now(UTC) + day)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256())
        )
        self.path = directory / "certificate.pem"
        self.path.write_bytes(certificate.public_bytes(Encoding.PEM))
        secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (directory / "key.pem").write_bytes(secret)
        self.context = SSL.Context(SSL.TLS_METHOD)
        self.context.use_certificate_file(str(self.path))
        self.context.use_privatekey_file(str(directory / "key.pem"))

    def serverConnectionForTLS(self, tlsProtocol: object) -> SSL.Connection:
        return SSL.Connection(self.context, None)


@pytest.mark.parametrize(
    ("name", "isTrusted", "why"),
    [
        ("localhost", True, ""),
        ("localhost", False, "certificate verify failed"),
        ("other.example", True, "VerificationError"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_a_certificate_is_verified(
    receiving: Receiving,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    isTrusted: bool,
    why: str,
) -> None:
    certificate = SelfSigned(tmp_path, name)
    if isTrusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate.path))
    port = receiving.reactor.listenSSL(0, receiving.site, certificate, interface="127.0.0.1")
    url = f"https://localhost:{port.getHost().port}/"
    try:
        if why:
            assert why in str(await receiving.refusal(url))
        else:
            await receiving.send(url)
        assert len(receiving.application.got) == (not why)
        await receiving.receivers[0].close()
    finally:
        await port.stopListening()


def test_an_answer_given_up_on_comes_as_far_as_it_got() -> None:
    clock = Clock()

    class Response:
        hungUp = False

        def deliverBody(self, body: Any) -> None:
            body.makeConnection(self)
            body.dataReceived(b"abc")
            self.body = body

        def loseConnection(self) -> None:
            self.hungUp = True
            self.body.connectionLost(None)

    response = Response()
    read = webhook._readAnswer(response, clock)
    clock.advance(webhook.ANSWER_TIME)
    assert SynchronousTestCase().successResultOf(read) == b"abc"
    assert response.hungUp
