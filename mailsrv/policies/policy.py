"""What most policies have in common: they let everything pass."""

from __future__ import annotations

from zope.interface import implementer

from mailsrv.interfaces import IPolicy, ISession, ITransaction, MaybeDeferredAnswer
from mailsrv.smtp.address import Mailbox
from mailsrv.smtp.message import Content


@implementer(IPolicy)
class Policy:
    """The policy to start from: no veto anywhere."""

    def atConnect(self, session: ISession) -> MaybeDeferredAnswer:
        return None

    def atMail(self, transaction: ITransaction) -> MaybeDeferredAnswer:
        return None

    def atRcpt(self, transaction: ITransaction, forwardPath: Mailbox) -> MaybeDeferredAnswer:
        return None

    def atContent(self, transaction: ITransaction, content: Content) -> MaybeDeferredAnswer:
        return None
