"""An ESMTP extension of your own: XTICKET takes the number of a ticket with MAIL.

EHLO offers XTICKET, and `MAIL FROM:<a@b> XTICKET=4711` is kept in `messages.parameters`.
"""

from mailsrv import ITransaction, ServerExtension, reply

NO_TICKET = reply(501, "5.5.4", "Syntax error: XTICKET=number")


class XTicket(ServerExtension):
    """Refuses a ticket that is no number; the parameter itself is stored as given."""

    keyword = "XTICKET"
    mailParams = frozenset({"XTICKET"})

    def atMail(self, transaction: ITransaction, params):
        return None if (params["XTICKET"] or "").isdigit() else NO_TICKET
