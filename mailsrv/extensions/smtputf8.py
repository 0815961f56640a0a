"""SMTPUTF8: internationalised addresses (RFC 6531)."""

from __future__ import annotations

from mailsrv.extensions.extension import ServerExtension
from mailsrv.interfaces import ITransaction, MaybeDeferredAnswer
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import Parameters


class SmtpUtf8Server(ServerExtension):
    """Lets MAIL say that addresses of its transaction may be UTF-8; the word takes no value."""

    keyword = "SMTPUTF8"
    mailParams = frozenset({"SMTPUTF8"})

    def atMail(self, transaction: ITransaction, params: Parameters) -> MaybeDeferredAnswer:
        return r.BAD_PARAMETER if params["SMTPUTF8"] is not None else None
