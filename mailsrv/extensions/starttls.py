"""STARTTLS: the connection turns to TLS (RFC 3207)."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from mailsrv.extensions.extension import ClientExtension, ServerExtension
from mailsrv.interfaces import (
    IEsmtpCommandWriter,
    ISession,
    MaybeDeferredAnswer,
    UnexpectedReply,
)
from mailsrv.smtp import local
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import domainKey
from mailsrv.smtp.command import MAX_LINE, Command
from mailsrv.smtp.reply import Reply

if TYPE_CHECKING:
    from OpenSSL.SSL import Connection
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

READY = r.reply(220, "2.0.0", "Ready to start TLS")
NO_CERTIFICATE = r.reply(502, "5.5.1", "TLS is not configured on this server")
ALREADY_SECURE = r.reply(503, "5.5.1", "Bad sequence of commands: TLS is on already")


class StartTlsServer(ServerExtension):
    """Offers STARTTLS until TLS is on; without a certificate (`isConfigured` false) it only
    says so."""

    keyword = "STARTTLS"
    verbs = {"STARTTLS": MAX_LINE}

    def __init__(self, isConfigured: bool = True) -> None:
        self._isConfigured = isConfigured

    def atEhlo(self, session: ISession) -> str | None:
        return "" if self._isConfigured and not session.isSecure else None

    def atCommand(self, session: ISession, command: Command) -> MaybeDeferredAnswer:
        if command.argument:
            return r.reply(501, "5.5.4", "Syntax error: STARTTLS takes no argument")
        if not self._isConfigured:
            return NO_CERTIFICATE
        if session.isSecure:
            return ALREADY_SECURE
        if not session.isExtended:
            return r.HELO_FIRST
        session.startTLS()
        return READY


class TlsPolicy(Enum):
    """What a client asks of TLS."""

    OPPORTUNISTIC = "used where it is offered, nothing verified (RFC 7435)"
    OFFERED = "used where it is offered, and then the certificate must be the host's"
    VERIFIED = "required, and the certificate must be the host's"


class StartTlsClient(ClientExtension):
    """Turns TLS on; goes before all other extensions.

    VERIFIED: where STARTTLS is not offered, or refused, or the certificate is not for the
    transport's `hostname`, nothing is sent. OPPORTUNISTIC: not offered or refused, the mail goes
    in clear; a handshake that fails ends the connection, and whether to try again without this
    extension is the caller's question. OFFERED: as VERIFIED where it is offered, and in clear
    where it is not. `trustRoot`: whose signatures count, by default those the
    machine trusts.
    """

    keyword = "STARTTLS"

    def __init__(self, policy: TlsPolicy, trustRoot: Any = None) -> None:
        self._isRequired = policy is TlsPolicy.VERIFIED
        self._isVerified = policy is not TlsPolicy.OPPORTUNISTIC
        self._trustRoot = trustRoot

    def afterEhlo(self, writer: IEsmtpCommandWriter, params: str | None) -> MaybeDeferredAnswer:
        if writer.isSecure:
            return None
        if params is None:
            return local.TLS_NOT_OFFERED if self._isRequired else None
        return Deferred.fromCoroutine(self._turnOn(writer))

    async def _turnOn(self, writer: IEsmtpCommandWriter) -> Reply | None:
        creator = self._creator(writer.hostname)
        try:
            await writer.executeCommand(Command("STARTTLS"), (220,))
        except UnexpectedReply:
            return local.TLS_REFUSED if self._isVerified else None
        await writer.getBuffer().startTLS(creator, self._isVerified)
        return None

    def _creator(self, hostname: str) -> IOpenSSLClientConnectionCreator:
        if not self._isVerified:
            return _unverified(hostname)
        from twisted.internet.ssl import optionsForClientTLS

        if not hostname:
            raise ValueError("a certificate is verified for a host name: give the transport one")
        return optionsForClientTLS(hostname, trustRoot=self._trustRoot)


def _unverified(hostname: str) -> IOpenSSLClientConnectionCreator:
    """TLS with whoever answers; the name is told (SNI), so that it can show the right one."""
    from OpenSSL.SSL import Connection
    from twisted.internet.abstract import isIPAddress, isIPv6Address
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator
    from twisted.internet.ssl import CertificateOptions
    from zope.interface import implementer

    @implementer(IOpenSSLClientConnectionCreator)
    class Unverified:
        def clientConnectionForTLS(self, tlsProtocol: Any) -> Connection:
            connection = Connection(CertificateOptions(verify=False).getContext(), None)
            if hostname and not isIPAddress(hostname) and not isIPv6Address(hostname):
                connection.set_tlsext_host_name(domainKey(hostname).encode("ascii", "replace"))
            return connection

    return Unverified()
