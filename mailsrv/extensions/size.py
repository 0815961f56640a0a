"""SIZE: message size declaration (RFC 1870)."""

from __future__ import annotations

from mailsrv.extensions.extension import ServerExtension
from mailsrv.interfaces import ISession, ITransaction, MaybeDeferredAnswer
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import Parameters

_MAX_DIGITS = 20  # RFC 1870 §3


class SizeServer(ServerExtension):
    """Tells the limit at EHLO, and refuses a larger declared size before a single octet is sent."""

    keyword = "SIZE"
    mailParams = frozenset({"SIZE"})

    def atEhlo(self, session: ISession) -> str | None:
        return str(session.limits.maxSize)

    def atMail(self, transaction: ITransaction, params: Parameters) -> MaybeDeferredAnswer:
        size = params["SIZE"]
        if size is None or not (size.isascii() and size.isdigit()) or len(size) > _MAX_DIGITS:
            return r.BAD_PARAMETER
        return r.TOO_BIG if int(size) > transaction.session.limits.maxSize else None
