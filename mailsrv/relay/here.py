"""Mail that was sent on to an address which turns out to be one of ours."""

from __future__ import annotations

from collections.abc import Collection

from twisted.internet.defer import Deferred

from mailsrv.interfaces import IDirectory, Outcome, QueueItem
from mailsrv.relay.job import LOOP, Verdict
from mailsrv.relay.report import Reported
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import domainKey, parseMailbox
from mailsrv.smtp.message import Forward, Recipient
from mailsrv.smtp.notify import wants, withoutSuccess
from mailsrv.smtp.reply import Reply


class Here:
    """Delivers to the mailboxes of the local `domains`: no connection, no second copy.

    A user's forward-to may lead to another user here, and from there on; the whole way is
    followed at once, so that one that leads back to itself is seen to end nowhere.
    """

    def __init__(self, directory: IDirectory, domains: Collection[str]) -> None:
        self._directory = directory
        self._domains = frozenset(map(domainKey, domains))

    def isHere(self, domain: str) -> bool:
        """Whether a domain, lower case, as A-label, is ours."""
        return domain in self._domains

    async def deliver(self, item: QueueItem) -> Verdict | Reply:
        """What becomes of an item; a Reply where it cannot be delivered, now or ever.

        Fails with Unavailable.
        """
        recipients: list[Recipient] = []
        elsewhere: list[str] = []
        refusal: Reply = LOOP
        todo, seen = [item.address], set[str]()
        while todo:
            mailbox = parseMailbox(todo.pop(0))
            if mailbox is None or mailbox.key in seen:
                continue
            seen.add(mailbox.key)
            if not self.isHere(domainKey(mailbox.domain)):
                elsewhere.append(str(mailbox))
                continue
            found = self._directory.resolve(mailbox)
            if isinstance(found, Deferred):
                found = await found
            todo += found.forwards
            users = found.mailboxes or (() if found.forwards else (None,))
            if found.reply.isPositive:
                recipients += [Recipient(str(mailbox), user, item.parameters) for user in users]
            else:
                refusal = found.reply
        if not recipients and not elsewhere:
            return refusal
        return _verdict(item, recipients, elsewhere)


def _verdict(item: QueueItem, recipients: list[Recipient], elsewhere: list[str]) -> Verdict:
    """Delivered; who has several places is told of that, and not of each (RFC 3461 §5.2.7)."""
    isShared = len(recipients) + len(elsewhere) > 1
    parameters = withoutSuccess(item.parameters) if isShared else item.parameters
    outcome = Outcome(
        item,
        "sent",
        r.RECIPIENT_OK.octets.decode().strip(),
        recipients=tuple(recipients),
        forwards=tuple(Forward(address, item.recipient, parameters) for address in elsewhere),
    )
    if not (isShared or recipients) or not wants(item.parameters, "SUCCESS"):
        return Verdict(outcome, None)
    action = "expanded" if isShared else "delivered"
    return Verdict(outcome, Reported(action, item.recipient, item.parameters, "2.0.0"))
