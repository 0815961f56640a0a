"""A server that takes our mail, by its name: a smart host, or what `smtpstore send` is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint

from mailsrv.client.timeouts import Timeouts
from mailsrv.client.transport import EsmtpTransport
from mailsrv.extensions.auth import AuthClient
from mailsrv.extensions.standard import clientExtensions
from mailsrv.extensions.starttls import StartTlsClient, TlsPolicy
from mailsrv.interfaces import IClientExtension
from mailsrv.smtp.address import isAddressLiteral, isDomain

_PORTS = {"smtp": 25, "smtps": 465}
_SUBMISSION = 587
_WANTED = "it is not smtp://user:password@host:587 (percent-encoded), or smtp://host"


@dataclass(frozen=True, slots=True)
class Remote:
    """Where to connect, as whom, and what of TLS.

    `login`: user and password, given only in verified TLS. `isSecure`: TLS from the first octet.
    `tls`: what is done about STARTTLS; None: nothing. A certificate must be for `host`.
    """

    host: str
    port: int
    login: tuple[str, str] | None = field(default=None, repr=False)
    isSecure: bool = False
    tls: TlsPolicy | None = TlsPolicy.OFFERED

    @property
    def needsTls(self) -> bool:
        """Whether nothing is sent without."""
        return self.isSecure or self.tls is TlsPolicy.VERIFIED

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parseSmartHost(text: str) -> Remote:
    """A Remote of `smtp://user:password@host:587`, or `smtps://…` for TLS from the first octet.

    Without a port it is 25; 587 with a login, 465 for smtps. With a login TLS is required, else
    used where it is offered; the certificate is verified. Raises ValueError, one line that does
    not show the password.
    """
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
        user, password = (unquote(each or "", errors="strict") for each in _login(parts.netloc))
    except ValueError:
        raise ValueError(_WANTED) from None
    isRight = parts.scheme in _PORTS and isHost(host) and text.isprintable() and port != 0
    if not isRight or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ValueError(_WANTED)
    if bool(user) != bool(password) or "\0" in user + password:
        raise ValueError("a user and a password go together: smtp://user:password@host:587")
    isSecure = parts.scheme == "smtps"
    usual = _SUBMISSION if user and not isSecure else _PORTS[parts.scheme]
    return Remote(
        host,
        port or usual,
        (user, password) if user else None,
        isSecure,
        TlsPolicy.VERIFIED if user else TlsPolicy.OFFERED,
    )


def _login(place: str) -> tuple[str, str]:
    login = place.rpartition("@")[0]
    user, _, password = login.partition(":")
    return user, password


def isHost(text: str) -> bool:
    """Whether it is a domain or an IP address."""
    return isDomain(text) or isAddressLiteral(f"[IPv6:{text}]")


def hasTls() -> bool:
    """Whether what TLS needs is installed."""
    try:
        import twisted.internet.ssl  # noqa: F401
    except ImportError:
        return False
    return True


def transportTo(
    remote: Remote,
    reactor: Any,
    helo: str,
    hostname: str = "",
    timeouts: Timeouts | None = None,
) -> EsmtpTransport:
    """A transport, not connected yet, with all client extensions; `helo`: our own name.

    `hostname`: that of the remote, where its `host` is but an address.
    """
    endpoint: IStreamClientEndpoint = HostnameEndpoint(reactor, remote.host, remote.port)
    first: list[IClientExtension] = []
    if remote.isSecure:
        from twisted.internet.ssl import optionsForClientTLS

        endpoint = wrapClientTLS(optionsForClientTLS(remote.host), endpoint)
    elif remote.tls is not None:
        first.append(StartTlsClient(remote.tls))
    if remote.login is not None:
        first.append(AuthClient(*remote.login))
    return EsmtpTransport(
        endpoint,
        reactor,
        helo=helo,
        extensions=[*first, *clientExtensions()],
        hostname=hostname or remote.host,
        timeouts=timeouts,
    )
