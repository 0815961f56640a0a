"""SMTPUTF8: internationalised addresses (RFC 6531)."""

from __future__ import annotations

from mailsrv.extensions.extension import ClientExtension, ServerExtension
from mailsrv.interfaces import IClientTransaction, ITransaction, MaybeDeferredAnswer
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import Parameters


class SmtpUtf8Server(ServerExtension):
    """Lets MAIL say that addresses of its transaction may be UTF-8; the word takes no value."""

    keyword = "SMTPUTF8"
    mailParams = frozenset({"SMTPUTF8"})

    def atMail(self, transaction: ITransaction, params: Parameters) -> MaybeDeferredAnswer:
        return r.BAD_PARAMETER if params["SMTPUTF8"] is not None else None


class SmtpUtf8Client(ClientExtension):
    """Says SMTPUTF8 where an address needs it, or the sender had said so.

    Where it is not offered the client itself refuses such addresses, 553 5.6.7.
    """

    keyword = "SMTPUTF8"

    def getMailParams(self, transaction: IClientTransaction, params: str | None) -> Parameters:
        addresses = (transaction.sender, *transaction.recipients)
        isNeeded = not all(address.isascii() for address in addresses)
        return {"SMTPUTF8": None} if isNeeded or "SMTPUTF8" in transaction.parameters else {}
