"""Events as HTTP requests, signed as Standard Webhooks are (standardwebhooks.com)."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from twisted.internet.defer import CancelledError, Deferred
from zope.interface import implementer

from mailsrv.interfaces import Event, EventRefused, IEventReceiver

RAW = 1 << 20  # octets of the largest message that goes raw with its event, where asked for
MAX_RAW = 4 << 20  # the most that may be asked for
MAX_URL = 255  # characters
MAX_ANSWER = 16_384  # octets of an answer's body that are read
MAX_SHOWN = 200  # characters of it in last_error
ANSWER_TIME = 5.0  # seconds that body has
CONNECT_TIME = 10.0
# Shorter than servers keep idle connections: a POST on one that is just closing is lost.
IDLE_TIME = 1

SECRET_VARIABLE = "SMTPSTORE_WEBHOOK_SECRET"  # noqa: S105
SECRET_FILE_VARIABLE = "SMTPSTORE_WEBHOOK_SECRET_FILE"  # noqa: S105
_SECRET_PREFIX = "whsec_"  # noqa: S105
_GONE = 410


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where events go by HTTP: a URL without login and fragment, which names its rows too.

    `octets`: the largest message that goes raw with its event, 0 for none. `login`: user and
    password of HTTP's basic authentication.
    """

    url: str
    octets: int = 0
    login: tuple[str, str] | None = field(default=None, repr=False)


def parseWebhook(text: str) -> Webhook:
    """A webhook of `https://user:password@host/path#raw` (or `#raw=OCTETS`, at most 4 MiB).

    The fragment is ours, no server sees it: raw asks for the message itself, where it has at most
    1 MiB. Raises ValueError, one line that does not repeat a password.
    """
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https") or not text.isprintable() or " " in text:
        raise ValueError("it is not a URL such as https://app.example.com/mail")
    word, _, number = parts.fragment.partition("=")
    if word not in ("", "raw") or (number and not (number.isascii() and number.isdigit())):
        raise ValueError("after # only raw is known, or raw=OCTETS")
    octets = int(number or RAW) if word else 0
    if octets > MAX_RAW:
        raise ValueError(f"raw={octets} is too much, {MAX_RAW} octets are the most")
    login, _, place = parts.netloc.rpartition("@")
    url = urlunsplit((parts.scheme, place, parts.path or "/", parts.query, ""))
    if len(url) > MAX_URL:
        raise ValueError(f"the URL is longer than {MAX_URL} characters")
    user, _, password = login.partition(":")
    return Webhook(url, octets, (unquote(user), unquote(password)) if login else None)


def readSecrets(environ: Mapping[str, str]) -> tuple[bytes, ...]:
    """The signing secrets out of SMTPSTORE_WEBHOOK_SECRET, or the file that
    SMTPSTORE_WEBHOOK_SECRET_FILE names: `whsec_` and base64, several (to change them without a
    gap) with blanks between. None is given: (). Raises ValueError, one line without the secret."""
    text, path = environ.get(SECRET_VARIABLE, ""), environ.get(SECRET_FILE_VARIABLE)
    if not text and path:
        try:
            with open(path, encoding="ascii") as file:
                text = file.read()
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is not text"
            raise ValueError(f"{SECRET_FILE_VARIABLE} {path}: {why}") from None
    return tuple(_secret(word) for word in text.split())


def _secret(word: str) -> bytes:
    try:
        if not word.startswith(_SECRET_PREFIX):
            raise ValueError
        secret = b64decode(word.removeprefix(_SECRET_PREFIX), validate=True)
    except ValueError:
        secret = b""
    if not 24 <= len(secret) <= 64:
        raise ValueError(
            f"{SECRET_VARIABLE}: a secret is whsec_ and the base64 of 24 to 64 octets; make one"
            ' with: echo "whsec_$(openssl rand -base64 32)"'
        )
    return secret


def payload(event: Event) -> bytes:
    """The event as JSON; times in ISO 8601 with Z, `raw` in base64 where it is there."""
    summary = event.summary
    fields: dict[str, Any] = {
        "id": event.id,
        "type": "message.stored",
        "timestamp": _iso(event.receivedAt),
        "envelope": {
            "sender": event.sender,
            "parameters": event.parameters,
            "recipients": [
                {"address": r.address, "mailbox": r.userId, "parameters": r.parameters}
                for r in event.recipients
            ],
        },
        "subject": summary.subject,
        "date": summary.date and _iso(summary.date),
        "text": summary.body,
        "message_id": summary.messageId,
        "size": event.size,
        "sha256": event.sha256,
        "peer": event.peer,
        "helo": event.helo,
        "protocol": event.protocol,
    }
    if event.raw is not None:
        fields["raw"] = b64encode(event.raw).decode("ascii")
    return json.dumps(fields, separators=(",", ":")).encode("ascii")


def _iso(time: datetime) -> str:
    return time.isoformat().replace("+00:00", "Z")


def signature(secrets: Sequence[bytes], id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: `v1,` and base64, for each secret."""
    signed = f"{id}.{timestamp}.".encode() + body
    digests = (hmac.digest(secret, signed, hashlib.sha256) for secret in secrets)
    return " ".join(f"v1,{b64encode(digest).decode('ascii')}" for digest in digests)


def _now() -> datetime:
    return datetime.now(UTC)


@implementer(IEventReceiver)
class WebhookReceiver:
    """Events go to a URL by POST; any 2yz answer takes the event, 410 refuses it for ever.

    Redirects are not followed, certificates are verified by the system's authorities (or those
    in the file that OpenSSL's SSL_CERT_FILE names), cookies and compression are ignored.
    `secrets`: () sends it unsigned. Needs treq; raises ImportError without it.
    """

    def __init__(
        self,
        webhook: Webhook,
        secrets: Sequence[bytes],
        reactor: Any,
        now: Callable[[], datetime] = _now,
    ) -> None:
        from treq.client import HTTPClient
        from twisted.web.client import Agent, HTTPConnectionPool

        self.destination = webhook.url
        self.octets = webhook.octets
        self._login = webhook.login
        self._secrets = secrets
        self._reactor = reactor
        self._now = now
        self._pool = HTTPConnectionPool(reactor)
        self._pool.cachedConnectionTimeout = IDLE_TIME
        self._pool.maxPersistentPerHost = 100
        agent: Any = Agent(reactor, connectTimeout=CONNECT_TIME, pool=self._pool)
        agent = _PlainAgent(agent)
        self._client = HTTPClient(agent)

    def receive(self, event: Event) -> Deferred[None]:
        return Deferred.fromCoroutine(self._post(event))

    def close(self) -> Deferred[None]:
        closed: Deferred[None] = self._pool.closeCachedConnections()
        return closed

    async def _post(self, event: Event) -> None:
        try:
            response = await self._request(event)
            answer = await _readAnswer(response, self._reactor)
        except Exception as error:
            cause = _innermost(error)
            if isinstance(cause, CancelledError):
                raise cause from error
            why = f"{type(cause).__name__}: {_oneLine(str(cause))}".rstrip(": ")
            raise EventRefused(why) from error
        if 200 <= response.code < 300:
            return
        asked = response.headers.getRawHeaders(b"retry-after", [b""])[-1]
        raise EventRefused(
            f"HTTP {response.code}: {_oneLine(answer.decode('utf-8', 'replace'))}".rstrip(": "),
            retryAfter=retryAfter(asked.decode("ascii", "replace"), self._now()),
            isGone=response.code == _GONE,
        )

    def _request(self, event: Event) -> Deferred[Any]:
        body = payload(event)
        timestamp = int(self._now().timestamp())
        headers: dict[bytes | str, bytes | str] = {
            "content-type": "application/json",
            "user-agent": "smtpstore",
            "webhook-id": event.id,
            "webhook-timestamp": str(timestamp),
        }
        if self._secrets:
            headers["webhook-signature"] = signature(self._secrets, event.id, timestamp, body)
        return self._client.request(
            "POST",
            self.destination,
            headers=headers,
            data=body,
            auth=self._login,
            allow_redirects=False,
            unbuffered=True,
            reactor=self._reactor,
        )


class _PlainAgent:
    """An agent that hears of no cookies, and of nothing that would have to be unpacked."""

    def __init__(self, agent: Any) -> None:
        self._agent = agent

    def request(self, *args: Any, **kw: Any) -> Deferred[Any]:
        requested: Deferred[Any] = self._agent.request(*args, **kw)
        return requested.addCallback(self._stripped)

    @staticmethod
    def _stripped(response: Any) -> Any:
        for name in (b"set-cookie", b"content-encoding"):
            response.headers.removeHeader(name)
        return response


def _readAnswer(response: Any, clock: Any) -> Deferred[bytes]:
    """The beginning of an answer's body. It never fails: the answer is its status, and who
    sends a body without an end, or none at all, is hung up on."""
    answer = _Answer()
    response.deliverBody(answer)
    answer.read.addTimeout(ANSWER_TIME, clock, onTimeoutCancel=lambda *_: bytes(answer.octets))
    return answer.read


class _Answer:
    """What an answer's body is delivered to: an IProtocol that reads no more than it must."""

    def __init__(self) -> None:
        self.octets = bytearray()
        self.read: Deferred[bytes] = Deferred(self._hangUp)

    def makeConnection(self, connection: Any) -> None:
        self._connection = connection

    def dataReceived(self, data: bytes) -> None:
        self.octets += data[: MAX_ANSWER - len(self.octets)]
        if len(self.octets) == MAX_ANSWER:
            self._hangUp()

    def connectionLost(self, reason: object) -> None:
        if not self.read.called:
            self.read.callback(bytes(self.octets))

    def _hangUp(self, _: object = None) -> None:
        self._connection.loseConnection()


def retryAfter(value: str, now: datetime) -> float | None:
    """Seconds of a Retry-After field, a number or a date; None: neither (RFC 9110 §10.2.3)."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value[:9])
    try:
        date = parsedate_to_datetime(value)
    except ValueError:
        return None
    return (date.replace(tzinfo=date.tzinfo or UTC) - now).total_seconds()


def _innermost(error: BaseException) -> BaseException:
    """What really kept a request from its answer."""
    while reasons := getattr(error, "reasons", None):
        error = reasons[0].value
    return error


def _oneLine(text: str) -> str:
    """The beginning of a text, fit for a log: controls become U+FFFD."""
    words = " ".join(text[:MAX_SHOWN].split())
    return "".join(each if each.isprintable() else "\ufffd" for each in words)
