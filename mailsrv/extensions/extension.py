"""What most extensions have in common: nothing declared, nothing refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from zope.interface import implementer

from mailsrv.interfaces import (
    IClientExtension,
    IClientTransaction,
    IEsmtpCommandWriter,
    IServerExtension,
    ISession,
    ITransaction,
    MaybeDeferredAnswer,
)
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox
from mailsrv.smtp.command import Command, Parameters
from mailsrv.smtp.reply import Reply


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


@implementer(IClientExtension)
class ClientExtension:
    """The client half to start from: a keyword, nothing added, nothing refused."""

    keyword = ""

    def getKeyword(self) -> str:
        return self.keyword

    def afterEhlo(self, writer: IEsmtpCommandWriter, params: str | None) -> MaybeDeferredAnswer:
        return None

    def getMailParams(
        self, transaction: IClientTransaction, params: str | None
    ) -> Parameters | Reply:
        return {}

    def getRcptParams(
        self, transaction: IClientTransaction, forwardPath: str, params: str | None
    ) -> Parameters | Reply:
        return {}

    def atCommand(
        self, writer: IEsmtpCommandWriter, command: Command, expectedCodes: Collection[int]
    ) -> None:
        """No turn taken."""
