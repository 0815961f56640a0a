"""SIZE: message size declaration (RFC 1870)."""

from __future__ import annotations

from mailsrv.extensions.extension import ClientExtension, ServerExtension
from mailsrv.interfaces import (
    IClientTransaction,
    ISession,
    ITransaction,
    MaybeDeferredAnswer,
)
from mailsrv.smtp import local
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import Parameters
from mailsrv.smtp.reply import Reply

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


class SizeClient(ClientExtension):
    """Declares the size; a message over the server's limit is refused here, 552."""

    keyword = "SIZE"

    def getMailParams(
        self, transaction: IClientTransaction, params: str | None
    ) -> Parameters | Reply:
        if transaction.size is None or params is None:
            return {}
        # No number, or 0, is no limit (§4).
        limit = int(params) if params.isascii() and params.isdigit() else 0
        if limit and transaction.size > limit:
            return local.OVER_ITS_LIMIT
        return {"SIZE": str(transaction.size)}
