"""8BITMIME: octets over 127 in the content (RFC 6152)."""

from __future__ import annotations

from mailsrv.extensions.extension import ServerExtension
from mailsrv.interfaces import ITransaction, MaybeDeferredAnswer
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import Parameters


class BodyServer(ServerExtension):
    """Checks BODY; the octets themselves are stored as they come, whatever was said."""

    keyword = "8BITMIME"
    mailParams = frozenset({"BODY"})
    values = frozenset({"7BIT", "8BITMIME"})

    def atMail(self, transaction: ITransaction, params: Parameters) -> MaybeDeferredAnswer:
        return None if (params["BODY"] or "").upper() in self.values else r.BAD_PARAMETER
