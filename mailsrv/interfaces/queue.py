"""The queue of mail for addresses elsewhere."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from twisted.internet.defer import Deferred
from zope.interface import Interface

from mailsrv.smtp.message import Forward, Message, Recipient


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message that is queued, without its content; the fields are those of Message.

    `size`: octets of its content.
    """

    id: str
    receivedAt: datetime
    sender: str
    parameters: str
    trace: bytes
    size: int


@dataclass(frozen=True, slots=True)
class QueueItem:
    """An address elsewhere that a message is queued for, claimed to be tried.

    `claim`: names the claim, and nothing else ever. `domain`: of `address`, lower case, as
    A-label. `recipient`, `parameters`: the accepted forward-path it comes from, and the parameters
    of that RCPT as given. `attempts`: so far. `isDelayReported`: the sender knows that it takes
    longer. `createdAt`: aware, UTC.
    """

    id: int
    claim: str
    message: QueuedMessage
    address: str
    domain: str
    recipient: str
    parameters: str
    attempts: int
    isDelayReported: bool
    createdAt: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: `state` is 'sent', 'failed', or 'waiting' for another.

    `reply`: what the next hop said, or why it could not be asked. `nextAttemptAt`: of what is
    waiting; aware, UTC. `isDelayReported`: the report that goes with it tells of a delay.
    `recipients`, `forwards`: where else the message is to be found from now on, where an address
    turned out to be one of ours.
    """

    item: QueueItem
    state: str
    reply: str
    nextAttemptAt: datetime | None = None
    isDelayReported: bool = False
    recipients: tuple[Recipient, ...] = ()
    forwards: tuple[Forward, ...] = ()


class IQueue(Interface):
    """The queue of mail for addresses elsewhere; all that relay it share it.

    Every method fails with one of `mailsrv.smtp.errors`: Unavailable, OutOfRoom, CannotStore.
    """

    def claim(
        limit: int, now: datetime, until: datetime, excluded: Collection[str]
    ) -> Deferred[list[QueueItem]]:
        """Claim at most `limit` addresses due now, none of the domains `excluded`.

        Nobody else claims them before `until`, unless they are released."""

    def renew(items: Sequence[QueueItem], until: datetime) -> Deferred[None]:
        """Keep what has not been settled claimed for longer; a claim that is lost stays lost."""

    def release(items: Sequence[QueueItem]) -> Deferred[None]:
        """Give claims back: what has not been settled is as due as it was."""

    def settle(
        outcomes: Sequence[Outcome], report: Message | None, now: datetime
    ) -> Deferred[bool]:
        """Write what came of attempts, and store the report of it, in one transaction.

        Fires with whether any of it was news, after the COMMIT; what was not (the claim had
        lapsed, the outcome was written before) is left as it is, and no report is stored then."""

    def read(messageId: str, index: int) -> Deferred[bytes]:
        """The `index`th MiB of a message's octets, from 0; fails with CannotStore where there
        is none."""
