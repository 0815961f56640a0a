"""8BITMIME and BINARYMIME: what the content is made of (RFC 6152, RFC 3030)."""

from __future__ import annotations

from mailsrv.extensions.extension import ServerExtension
from mailsrv.interfaces import ITransaction, MaybeDeferredAnswer
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import Parameters


class BodyServer(ServerExtension):
    """Checks BODY; the octets themselves are stored as they come, whatever was said."""

    keyword = "8BITMIME"
    mailParams = frozenset({"BODY"})

    def atMail(self, transaction: ITransaction, params: Parameters) -> MaybeDeferredAnswer:
        value = (params["BODY"] or "").upper()
        if value not in ("7BIT", "8BITMIME", "BINARYMIME"):
            return r.BAD_PARAMETER
        # Octets that are no lines cannot end with a dot (RFC 3030 §3).
        transaction.needsChunks = value == "BINARYMIME"
        return None
