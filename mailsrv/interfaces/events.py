"""Events for the application: the outbox, and who is told."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from twisted.internet.defer import Deferred
from zope.interface import Attribute, Interface

from mailsrv.smtp.message import Recipient, Summary


@dataclass(frozen=True, slots=True)
class Event:
    """A message was stored.

    `id` is the message's, and so the same at each attempt and each replay; `key` is the event's
    number in the outbox. `attempt`: 1 the first time. `putUpAt`: when it was put up, or replayed
    last; both times are aware, UTC. `raw`: the message's exact octets where the receiver asks
    for them and they are not too many, else None. The other fields are those of Message.
    """

    key: int
    id: str
    attempt: int
    putUpAt: datetime
    receivedAt: datetime
    sender: str
    recipients: tuple[Recipient, ...]
    summary: Summary
    size: int
    sha256: str
    parameters: str = ""
    helo: str = ""
    peer: str = ""
    protocol: str = "SMTP"
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """What became of an event: no `error`: delivered; an `error`: to be tried again at `retryAt`
    (aware, UTC), or, without that, given up."""

    key: int
    error: str | None = None
    retryAt: datetime | None = None


class EventRefused(Exception):
    """The receiver did not take the event; the text says why.

    `retryAfter`: seconds after which it would like to be asked again. `isGone`: never again.
    """

    def __init__(self, reason: str, retryAfter: float | None = None, isGone: bool = False) -> None:
        super().__init__(reason)
        self.retryAfter = retryAfter
        self.isGone = isGone


class IEventSource(Interface):
    """The outbox: events of messages that are committed, in the order they are to be delivered."""

    def turn(
        destination: str, outcomes: Sequence[EventOutcome], limit: int, lease: float, octets: int
    ) -> Deferred[list[Event]]:
        """Write down what became of earlier events, and claim the next, `limit` at most.

        Nobody else is given them for `lease` seconds. An event waits while an earlier one for
        the same mailbox (or address) and destination does. They come with their raw message
        where it has at most `octets` octets. A turn that failed may be said again.
        """

    def prune() -> Deferred[bool]:
        """Remove what was delivered or given up long ago; whether there may be more to do."""


class IEventReceiver(Interface):
    """An application that is told of messages."""

    destination = Attribute("str: what its rows in the outbox are known by; 255 characters.")
    octets = Attribute("int: the largest message it wants raw with its event; 0: none.")

    def receive(event: Event) -> Deferred[None]:
        """Deliver an event, at least once; fires when it is taken.

        Fails with EventRefused or anything else: it is tried again later. May be cancelled.
        """

    def close() -> Deferred[None]:
        """Give back what it holds; nothing is delivered any more."""
