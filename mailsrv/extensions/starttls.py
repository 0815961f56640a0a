"""STARTTLS: the connection turns to TLS (RFC 3207)."""

from __future__ import annotations

from mailsrv.extensions.extension import ServerExtension
from mailsrv.interfaces import ISession, MaybeDeferredAnswer
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import MAX_LINE, Command

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
