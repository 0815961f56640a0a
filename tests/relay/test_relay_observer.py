"""What the relay makes of messages just stored."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import fail
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from mailsrv.interfaces import ISessionObserver
from mailsrv.relay.observer import RelayObserver, deliveredHere
from mailsrv.relay.reporter import Reporter
from mailsrv.smtp import reply as r
from mailsrv.smtp.errors import Unavailable
from mailsrv.smtp.message import Forward, Message, Recipient
from mailsrv.store.memory import MemoryStore
from mailsrv.testing import makeMessage
from relay.relaysupport import HOST, NOON, Directory, MemoryQueue

SUCCESS = "NOTIFY=SUCCESS ORCPT=rfc822;b@example.org"


class Office:
    """An observer, and what it has done."""

    def __init__(self) -> None:
        self.pokes = 0
        self.store: Any = MemoryStore()
        reporter = Reporter(Directory(), HOST, lambda: NOON)
        self.observer = RelayObserver(MemoryQueue(), self.store, reporter, self.poke)

    def poke(self) -> None:
        self.pokes += 1

    def stored(self, **fields: Any) -> list[Message]:
        """Tell it of a message; the reports stored because of it."""
        message = makeMessage(**{"sender": "alice@example.org", **fields})
        self.observer.messageStored(None, message, 0.1)  # type: ignore[arg-type]
        return list(self.store.messages.values())


def actions(*recipients: Recipient, forwards: tuple[Forward, ...] = ()) -> dict[str, str]:
    message = makeMessage(recipients=recipients, forwards=forwards)
    return {each.address: each.action for each in deliveredHere(message)}


def test_it_is_an_observer_that_minds_its_own_business() -> None:
    office = Office()
    assert verifyObject(ISessionObserver, office.observer)
    office.observer.sessionOpened(None)  # type: ignore[arg-type]
    office.observer.commandRefused(None, "RCPT", b"", r.NO_SUCH_USER)  # type: ignore[arg-type]
    office.observer.sessionClosed(None, "")  # type: ignore[arg-type]
    assert (office.pokes, office.store.messages) == (0, {})


def test_the_worker_is_poked_where_something_was_queued() -> None:
    office = Office()
    office.stored()
    assert office.pokes == 0
    office.stored(forwards=(Forward("a@x.example", "b@example.org"),))
    assert office.pokes == 1


def test_who_asked_is_told_of_the_delivery() -> None:
    [report] = Office().stored(recipients=(Recipient("b@example.org", 2, SUCCESS),))
    octets = report.content.head(9999)
    for line in (
        b"Original-Recipient: rfc822; b@example.org",
        b"Final-Recipient: rfc822; b@example.org",
        b"Action: delivered",
        b"Status: 2.0.0",
        b"Subject: Delivered mail",
        b"X-Note: first",  # the message's header, out of the database
    ):
        assert line + b"\r\n" in octets
    assert b"Remote-MTA" not in octets
    assert b"Diagnostic-Code" not in octets
    assert report.recipients == (Recipient("alice@example.org", 1),)


@pytest.mark.parametrize(
    ("sender", "parameters"),
    [
        ("", SUCCESS),
        ("alice@example.org", ""),
        ("alice@example.org", "NOTIFY=FAILURE"),
        ("alice@example.org", "NOTIFY=NEVER"),
        ("gone@example.org", SUCCESS),
    ],
)
def test_nobody_else_is(sender: str, parameters: str) -> None:
    recipients = (Recipient("b@example.org", 2, parameters),)
    assert Office().stored(sender=sender, recipients=recipients) == []


def test_a_report_for_elsewhere_pokes_the_worker() -> None:
    office = Office()
    office.stored(sender="me@far.example", recipients=(Recipient("b@example.org", 2, SUCCESS),))
    assert office.pokes == 1


def test_what_becomes_of_an_address_is_told_by_who_ends_its_way() -> None:
    one, two = Recipient("a@x", 1, SUCCESS), Recipient("a@x", 2, SUCCESS)
    sink, queued = Recipient("s@x", None, SUCCESS), Recipient("f@x", None, SUCCESS)
    away, also = Forward("f@y", "f@x", SUCCESS), Forward("g@y", "f@x", SUCCESS)
    assert actions(one) == {"a@x": "delivered"}
    assert actions(sink) == {"s@x": "delivered"}
    assert actions(one, two) == {"a@x": "expanded"}
    assert actions(queued, forwards=(away,)) == {}
    assert actions(queued, forwards=(away, also)) == {"f@x": "expanded"}
    assert actions(one, forwards=(Forward("a@y", "a@x", SUCCESS),)) == {"a@x": "expanded"}
    assert actions(one, queued, sink, forwards=(away,)) == {"a@x": "delivered", "s@x": "delivered"}


def test_a_report_that_cannot_be_stored_is_logged(caught: list[Failure]) -> None:
    office = Office()
    office.store.store = lambda message: fail(Unavailable("away"))
    office.stored(recipients=(Recipient("b@example.org", 2, SUCCESS),))
    assert [each.type for each in caught] == [Unavailable]
