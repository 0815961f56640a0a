"""What most extensions have in common: nothing declared, nothing refused."""

from __future__ import annotations

from collections.abc import Mapping

from zope.interface import implementer

from mailsrv.interfaces import (
    IServerExtension,
    ISession,
    ITransaction,
    MaybeDeferredAnswer,
)
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox
from mailsrv.smtp.command import Command, Parameters


@implementer(IServerExtension)
class ServerExtension:
    """The server half to start from: a keyword, always offered, without parameters or verbs."""

    keyword = ""
    mailParams: frozenset[str] = frozenset()
    rcptParams: frozenset[str] = frozenset()
    verbs: Mapping[str, int] = {}

    def getKeyword(self) -> str:
        return self.keyword

    def atEhlo(self, session: ISession) -> str | None:
        return ""

    def atMail(self, transaction: ITransaction, params: Parameters) -> MaybeDeferredAnswer:
        return None

    def atRcpt(
        self, transaction: ITransaction, forwardPath: Mailbox, params: Parameters
    ) -> MaybeDeferredAnswer:
        return None

    def atCommand(self, session: ISession, command: Command) -> MaybeDeferredAnswer:
        return r.NOT_IMPLEMENTED
