"""Mail that was sent on to an address of our own: it goes into mailboxes, not over the wire."""

from __future__ import annotations

from datetime import timedelta

import pytest
from twisted.python.failure import Failure

from mailsrv.interfaces import Resolution
from mailsrv.smtp import reply as r
from mailsrv.smtp.errors import Unavailable
from mailsrv.smtp.message import Forward, Recipient
from mailsrv.smtp.reply import reply
from relay.relaysupport import NOON, Relay, makeItem

FORWARDED = reply(251, "2.1.5", "User not local; will forward")
SUCCESS = "NOTIFY=SUCCESS"


def relay(address: str = "bob@example.org", parameters: str = "", **known: Resolution) -> Relay:
    """A relay that is about to deliver to an address here."""
    relay = Relay(makeItem(address=address, recipient="old@example.org", parameters=parameters))
    for name, resolution in known.items():
        relay.directory.known[f"{name}@example.org"] = resolution
    return relay


def to(*addresses: str, users: tuple[int, ...] = ()) -> Resolution:
    return Resolution(FORWARDED, users, addresses)


def places(relay: Relay) -> tuple[list[tuple[str, int | None]], list[str]]:
    """Where the message is now: mailboxes here, addresses elsewhere."""
    row = relay.queue.rows[1]
    assert row.state == "sent"
    held = [(each.address, each.userId) for each in row.recipients]
    return held, [each.address for each in row.forwards]


def told(relay: Relay) -> list[bytes]:
    return [
        line
        for report in relay.queue.reports
        for line in report.content.head(9999).split(b"\r\n")
        if line.startswith((b"Action", b"Status", b"Final"))
    ]


@pytest.mark.parametrize("isSlow", [False, True])
def test_a_mailbox_here_has_it_without_a_connection(isSlow: bool) -> None:
    one = relay(bob=Resolution(r.RECIPIENT_OK, (7,)))
    one.directory.isSlow = isSlow
    one.run()
    assert places(one) == ([("bob@example.org", 7)], [])
    assert one.queue.rows[1].recipients == (Recipient("bob@example.org", 7, ""),)
    assert one.net.asked == []
    assert (one.worker.counters.sent, one.worker.counters.held) == (1, 0)
    assert one.queue.reports == []


def test_all_of_the_way_is_followed_and_only_its_ends_count() -> None:
    one = relay(
        bob=to("ann@example.org", "far@x.example"),
        ann=to("joe@EXAMPLE.org", users=(2,)),
        joe=Resolution(r.RECIPIENT_OK, (3,)),
    )
    one.directory.known["joe@EXAMPLE.org"] = one.directory.known["joe@example.org"]
    one.run()
    assert places(one) == (
        [("ann@example.org", 2), ("joe@EXAMPLE.org", 3)],
        ["far@x.example"],
    )


def test_who_has_no_mailbox_here_but_is_welcome_is_kept_too() -> None:
    one = relay("postmaster@example.org", postmaster=Resolution(r.RECIPIENT_OK))
    one.run()
    assert places(one) == ([("postmaster@example.org", None)], [])


def test_a_way_that_leads_back_to_itself_ends_nowhere() -> None:
    one = relay(bob=to("ann@example.org"), ann=to("bob@example.org"))
    one.run()
    assert one.queue.states() == {1: "failed"}
    assert told(one) == [
        b"Final-Recipient: rfc822; old@example.org",
        b"Action: failed",
        b"Status: 5.4.6",
    ]


def test_who_is_unknown_here_is_reported_at_once() -> None:
    one = relay()
    one.run()
    assert one.queue.states() == {1: "failed"}
    assert told(one)[1:] == [b"Action: failed", b"Status: 5.1.1"]


def test_a_part_of_the_way_that_leads_nowhere_does_not_matter() -> None:
    one = relay(bob=to("nobody@example.org", "far@x.example"))
    one.run()
    assert places(one) == ([], ["far@x.example"])


def test_a_4yz_here_is_tried_again() -> None:
    one = relay(bob=Resolution(r.ALIAS_LOOP))
    one.run()
    assert one.queue.rows[1].nextAttemptAt == NOON + timedelta(minutes=1)
    one.directory.known["bob@example.org"] = Resolution(r.RECIPIENT_OK, (7,))
    one.wait(seconds=66)
    assert places(one) == ([("bob@example.org", 7)], [])


def test_a_directory_that_cannot_be_asked_gives_it_back() -> None:
    one = relay()
    one.directory.fault = Unavailable("away")
    one.run()
    assert (one.queue.states(), one.worker.counters.held) == ({1: "waiting"}, 0)
    one.directory.fault = None
    one.directory.known["bob@example.org"] = Resolution(r.RECIPIENT_OK, (7,))
    one.wait(seconds=5)
    assert one.queue.states() == {1: "sent"}


def test_a_fault_of_ours_defers_it(caught: list[Failure]) -> None:
    one = relay()
    one.directory.fault = ZeroDivisionError()
    one.run()
    assert one.queue.rows[1].reply.startswith("451 4.3.0 ")
    assert [each.type for each in caught] == [ZeroDivisionError]


def test_success_is_told_once_by_who_ends_the_way() -> None:
    one = relay(parameters=SUCCESS, bob=Resolution(r.RECIPIENT_OK, (7,)))
    one.run()
    assert told(one) == [
        b"Final-Recipient: rfc822; old@example.org",
        b"Action: delivered",
        b"Status: 2.0.0",
    ]
    several = relay(parameters=SUCCESS, bob=to("far@x.example", users=(7,)))
    several.run()
    assert told(several)[1] == b"Action: expanded"
    assert several.queue.rows[1].forwards == (
        Forward("far@x.example", "old@example.org", "NOTIFY=NEVER"),
    )
    further = relay(parameters=SUCCESS, bob=to("far@x.example"))
    further.run()
    assert told(further) == []
    assert further.queue.rows[1].forwards[0].parameters == SUCCESS
