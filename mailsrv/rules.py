"""What a server is told to offer and to refuse, out of its settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.cred.portal import Portal
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator, IReactorTime

from mailsrv.extensions.auth import AuthServer
from mailsrv.extensions.standard import standardExtensions
from mailsrv.extensions.starttls import StartTlsServer
from mailsrv.interfaces import IPolicy, IServerExtension
from mailsrv.plugins import makeExtensions, makePolicies
from mailsrv.policies.relay import RelayPolicy
from mailsrv.policies.secure import RequireLogin, RequireTls
from mailsrv.policies.senders import OwnSenders
from mailsrv.process import StartError
from mailsrv.settings import Settings
from mailsrv.store.credentials import LoginRealm, SqlPasswords

if TYPE_CHECKING:
    from mailsrv.policies.senders import Owns


def certificateOf(settings: Settings) -> IOpenSSLServerConnectionCreator | None:
    """What TLS is done with, where it is; raises StartError."""
    if not settings.hasTls:
        return None
    try:
        # Only here: a server without TLS needs neither of what these import.
        from mailsrv.server.certificate import Certificate, FixedCertificate
        from mailsrv.server.selfsigned import selfSigned
    except ImportError:
        raise StartError("TLS needs pyOpenSSL: pip install 'smtpstore[tls]'") from None
    try:
        if settings.tlsCert is None or settings.tlsKey is None:
            return FixedCertificate(*selfSigned(settings.hostname))
        return Certificate(settings.tlsCert, settings.tlsKey)
    except OSError as error:
        why = f"{error.filename}: {error.strerror}"
    except ValueError as error:
        why = str(error)
    raise StartError(f"{why}; see --tls-cert and --tls-key")


def extensionsOf(
    settings: Settings, passwords: SqlPasswords, clock: IReactorTime
) -> list[IServerExtension]:
    """Those of every server, then TLS and logins, then third parties'; raises StartError."""
    auth = AuthServer(Portal(LoginRealm(), [passwords]), clock, allowInsecure=settings.authInsecure)
    return [
        *standardExtensions(allowVrfy=settings.allowVrfy, allowExpn=settings.allowExpn),
        StartTlsServer(settings.hasTls),
        auth,
        *makeExtensions(settings.extensions),
    ]


def policiesOf(settings: Settings, owns: Owns) -> list[IPolicy]:
    """TLS and logins first, third parties' last; raises StartError."""
    return [
        *([RequireTls()] if settings.requireTls else []),
        RequireLogin(),
        *([RelayPolicy(settings.domains, settings.relayClients)] if settings.domains else []),
        *([OwnSenders(owns)] if settings.ownSenders else []),
        *makePolicies(settings.policies),
    ]
