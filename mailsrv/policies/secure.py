"""Who must use TLS, and who must log in (RFC 3207 §4, RFC 6409 §4.3)."""

from __future__ import annotations

from mailsrv.interfaces import ITransaction, MaybeDeferredAnswer
from mailsrv.policies.policy import Policy
from mailsrv.smtp import reply as r

TLS_REQUIRED = r.reply(530, "5.7.0", "Must issue a STARTTLS command first")
LOGIN_REQUIRED = r.reply(530, "5.7.0", "Authentication required")


class RequireTls(Policy):
    """530 5.7.0 to MAIL outside TLS."""

    def atMail(self, transaction: ITransaction) -> MaybeDeferredAnswer:
        return None if transaction.session.isSecure else TLS_REQUIRED


class RequireLogin(Policy):
    """530 5.7.0 to MAIL of a submission by who has not logged in."""

    def atMail(self, transaction: ITransaction) -> MaybeDeferredAnswer:
        session = transaction.session
        return LOGIN_REQUIRED if session.isSubmission and not session.identity else None
