"""Whose name a login may write under (--login-senders own)."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred

from mailsrv.interfaces import Answer, ITransaction, MaybeDeferredAnswer
from mailsrv.policies.policy import Policy
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox

NOT_YOURS = r.reply(553, "5.7.1", "Not a sender address of this login")

Owns = Callable[[str, Mailbox], bool | Deferred[bool]]


class OwnSenders(Policy):
    """553 5.7.1 where who logged in sends as neither the login's address nor an alias of it.

    `owns(identity, mailbox)` tells. The null reverse-path names nobody and passes.
    """

    def __init__(self, owns: Owns) -> None:
        self._owns = owns

    def atMail(self, transaction: ITransaction) -> MaybeDeferredAnswer:
        identity = transaction.session.identity
        if not identity or transaction.reversePath.isNull:
            return None
        isOwn = self._owns(identity, transaction.reversePath)
        if isinstance(isOwn, Deferred):
            return isOwn.addCallback(_answer)
        return _answer(isOwn)


def _answer(isOwn: bool) -> Answer:
    return None if isOwn else NOT_YOURS
