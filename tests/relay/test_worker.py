"""The worker with next hops that answer as told: claims, connections, retries, the end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from twisted.internet.defer import Deferred
from twisted.logger import Logger, formatEvent
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from mailsrv.client.source import Source
from mailsrv.interfaces import IQueue
from mailsrv.smtp import local
from mailsrv.smtp.errors import CannotStore, Unavailable
from mailsrv.smtp.reply import reply
from mailsrv.store.sqlqueue import SqlQueue
from relay.relaysupport import (
    ACCEPTED,
    BUSY,
    GOING,
    NOON,
    OCTETS,
    REFUSED,
    MemoryQueue,
    Relay,
    contentOf,
    envelopes,
    makeItem,
)


def answered(deferred: Deferred[None]) -> bool:
    """Whether it has fired; with success, that is."""
    results: list[object] = []
    deferred.addBoth(results.append)
    assert not isinstance(results[:1], Failure)
    return bool(results)


def test_the_queue_of_these_tests_is_a_queue() -> None:
    assert verifyObject(IQueue, MemoryQueue())
    assert verifyObject(IQueue, SqlQueue(None, ""))  # type: ignore[arg-type]


# What is sent


def test_a_due_message_is_sent_with_its_trace_but_without_the_return_path() -> None:
    relay = Relay(makeItem(message={"parameters": "BODY=8BITMIME RET=HDRS ENVID=e+3D1"}))
    relay.run()
    [envelope] = relay.net.sent
    assert (envelope.sender, envelope.recipients) == ("alice@example.org", ("u1@x.example",))
    assert contentOf(envelope) == b"Received: from a\r\n\tby b; date\r\n" + OCTETS
    assert envelope.parameters == {"BODY": "8BITMIME", "RET": "HDRS", "ENVID": "e+3D1"}
    assert relay.queue.states() == {1: "sent"}
    assert relay.queue.rows[1].reply == "250 2.0.0 taken"
    assert (relay.worker.counters.sent, relay.worker.counters.held) == (1, 0)


def test_addresses_of_one_message_at_one_hop_share_a_transaction() -> None:
    same = {"id": "01J", "sender": ""}
    relay = Relay(
        makeItem(1, message=same, parameters="NOTIFY=NEVER ORCPT=rfc822;x@y"),
        makeItem(2, message=same),
        makeItem(3, message=same, address="a@other.example"),
        makeItem(4, message={"id": "02J"}),
    )
    relay.run()
    assert sorted(envelopes(relay.net.sent)) == [
        ("a@other.example",),
        ("u1@x.example", "u2@x.example"),
        ("u4@x.example",),
    ]
    [both] = [each for each in relay.net.sent if len(each.recipients) == 2]
    assert both.sender == ""
    assert both.recipientParameters["u1@x.example"] == {
        "NOTIFY": "NEVER",
        "ORCPT": "rfc822;x@y",
    }
    assert set(relay.queue.states().values()) == {"sent"}


def test_a_transaction_has_at_most_a_hundred_recipients() -> None:
    relay = Relay(*(makeItem(number, message={"id": "01J"}) for number in range(1, 251)))
    relay.run()
    assert sorted(len(each.recipients) for each in relay.net.sent) == [50, 100, 100]


def test_a_large_message_goes_as_a_stream_of_its_length_and_known_traits() -> None:
    octets = b"Subject: x\r\n\r\n" + b"0123456789abcdef\r\n" * 150_000  # 2.6 MiB
    relay = Relay(makeItem(message={"size": len(octets)}), octets=octets)
    relay.run()
    source = relay.net.sent[0].content
    assert isinstance(source, Source)
    trace = b"Received: from a\r\n\tby b; date\r\n"
    assert source.length == len(trace) + len(octets)
    assert source.traits is not None
    assert source.traits.isPlain
    received = Consumer()
    done = source.producer().startProducing(received)
    assert answered(done)
    assert b"".join(received.pieces) == trace + octets
    assert max(map(len, received.pieces)) <= 65_536


class Consumer:
    """Takes what is produced."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.pieces.append(data)


# What the answers make of it


def test_each_recipient_has_its_own_fate() -> None:
    same = {"id": "01J"}
    relay = Relay(*(makeItem(number, message=same) for number in (1, 2, 3)))
    relay.net.isQuick = False
    relay.run()
    relay.net.transports[0].answer(ACCEPTED, REFUSED, BUSY)
    assert relay.queue.states() == {1: "sent", 2: "failed", 3: "waiting"}
    assert relay.queue.rows[3].nextAttemptAt == NOON + timedelta(minutes=1)
    counters = relay.worker.counters
    assert (counters.sent, counters.failed, counters.deferred, counters.reports) == (1, 1, 1, 1)


@pytest.mark.parametrize("code", [250, 450, 550])
def test_a_reply_of_any_length_is_a_short_line_in_the_log_and_in_the_queue(code: int) -> None:
    lines: list[str] = []
    log = Logger(observer=lambda event: lines.append(formatEvent(event)))
    relay = Relay(makeItem(), log=log)
    relay.net.reply = reply(code, "", *["x" * 2000] * 200)
    relay.run()
    assert relay.queue.rows[1].settled == 1
    assert len(relay.queue.rows[1].reply) == 1000
    assert f"{code}-xxx" in lines[-1]
    assert max(map(len, lines)) < 1300


def test_a_4yz_is_tried_again_and_again_until_it_is_taken() -> None:
    relay = Relay(makeItem())
    relay.net.reply = BUSY
    relay.run()
    assert (len(relay.net.sent), relay.queue.rows[1].reply) == (1, "450 4.2.1 mailbox busy")
    relay.wait(seconds=59)
    assert len(relay.net.sent) == 1
    relay.wait(seconds=7)  # a minute, and the next look into the queue
    assert len(relay.net.sent) == 2
    relay.wait(minutes=6)
    assert len(relay.net.sent) == 3
    relay.net.reply = ACCEPTED
    relay.wait(minutes=16)
    assert relay.queue.states() == {1: "sent"}
    assert relay.queue.rows[1].item.attempts == 4
    assert relay.queue.reports == []


def test_after_four_hours_the_sender_is_told_once_and_after_five_days_it_is_given_up() -> None:
    relay = Relay(makeItem())
    relay.net.reply = BUSY
    relay.run()
    relay.wait(hours=3)
    assert relay.queue.reports == []
    relay.wait(hours=6)
    [delayed] = relay.queue.reports
    relay.wait(days=4)
    assert relay.queue.reports == [delayed]
    assert relay.queue.states() == {1: "waiting"}
    relay.wait(days=1)
    assert relay.queue.states() == {1: "failed"}
    [_, failed] = relay.queue.reports
    assert b"Action: delayed" in delayed.content.head(9999)
    assert b"Action: failed\r\nStatus: 4.4.7" in failed.content.head(9999)
    assert relay.worker.counters.reports == 2


def test_a_message_that_goes_in_a_circle_fails_without_being_sent() -> None:
    for count, sent in ((49, 1), (50, 0)):
        octets = b"Received: from a by b\r\n" * count + b"\r\nReceived: no\r\n" * 99
        relay = Relay(makeItem(message={"size": len(octets)}), octets=octets)
        relay.run()
        assert len(relay.net.sent) == sent
        assert relay.queue.states() == {1: "sent" if sent else "failed"}
    assert relay.queue.rows[1].reply.startswith("554 5.4.6 ")


def test_what_has_gone_meanwhile_is_nobodys_business() -> None:
    relay = Relay(makeItem())
    relay.net.isQuick = False
    relay.run()
    del relay.queue.rows[1]
    relay.net.transports[0].answer(REFUSED)
    assert (relay.worker.counters.failed, relay.queue.reports) == (0, [])
    relay.run(makeItem(2))
    relay.queue.octets = b""
    relay.net.transports[0].answer(ACCEPTED)


# Connections


def test_one_connection_serves_several_messages_and_leaves_after_a_while() -> None:
    relay = Relay(*map(makeItem, (1, 2, 3)), connectionsPerHop=1)
    relay.run()
    assert relay.net.asked == ["x.example"]
    assert len(relay.net.sent) == 3
    relay.wait(seconds=1)
    relay.run(makeItem(4))
    assert (len(relay.net.sent), relay.net.asked) == (4, ["x.example"])
    assert relay.worker.counters.connections == 1
    relay.wait(seconds=3)
    assert (relay.worker.counters.connections, len(relay.net.left)) == (0, 1)
    relay.run(makeItem(5))
    assert relay.net.asked == ["x.example"] * 2


def test_a_connection_is_renewed_after_so_many_messages() -> None:
    relay = Relay(*map(makeItem, range(1, 6)), connectionsPerHop=1, messagesPerConnection=2)
    relay.run()
    assert [len(each.sent) for each in relay.net.transports] == [2, 2, 1]


def test_connections_are_bounded_per_hop_and_in_all() -> None:
    items = [makeItem(n, address=f"u{n}@{'abc'[n % 3]}.example") for n in range(1, 31)]
    relay = Relay(*items, connectionsPerHop=4, connections=9)
    relay.net.isQuick = False
    relay.run()
    assert relay.worker.counters.connections == 9
    assert max(relay.net.asked.count(f"{letter}.example") for letter in "abc") == 4
    while any(each.pending for each in relay.net.transports):
        for each in relay.net.transports:
            if each.pending:
                each.answer(ACCEPTED)
        assert relay.worker.counters.connections <= 9
        relay.wait(seconds=3)
    assert set(relay.queue.states().values()) == {"sent"}
    assert relay.worker.counters.connections == 0


def test_a_hop_that_cannot_be_reached_defers_all_that_waits_for_it() -> None:
    relay = Relay(*map(makeItem, range(1, 8)), makeItem(9, address="a@good.example"))
    relay.net.refusals["x.example"] = local.CANNOT_CONNECT
    relay.run()
    assert relay.worker.counters.deferred == 7
    assert relay.queue.rows[9].state == "sent"
    assert relay.queue.rows[1].reply == "451 4.4.1 No answer from the host"
    relay.wait(seconds=3)
    assert relay.worker.counters.connections == 0


def test_a_domain_that_takes_no_mail_fails_it_at_once() -> None:
    relay = Relay(makeItem())
    relay.net.refusals["x.example"] = reply(556, "5.1.10", "null MX")
    relay.run()
    assert relay.queue.states() == {1: "failed"}
    assert len(relay.queue.reports) == 1


def test_one_connection_too_many_costs_nothing() -> None:
    relay = Relay(*map(makeItem, (1, 2, 3)))
    relay.net.isSlow, relay.net.isQuick = True, False
    relay.run()
    assert len(relay.net.connecting) == 3
    relay.net.let()
    relay.net.refusals["x.example"] = GOING
    relay.net.let()
    relay.net.let()
    assert relay.worker.counters.connections == 1
    [transport] = relay.net.transports
    for _ in range(3):
        transport.answer(ACCEPTED)
    assert set(relay.queue.states().values()) == {"sent"}
    assert len(relay.net.asked) == 3  # nor is it asked for again


def test_a_reused_connection_that_ends_sends_the_message_over_a_new_one() -> None:
    relay = Relay(*map(makeItem, (1, 2)), connectionsPerHop=1)
    relay.net.isQuick = False
    relay.run()
    first = relay.net.transports[0]
    first.answer(ACCEPTED)
    first.cut(GOING)
    assert relay.queue.states() == {1: "sent", 2: "waiting"}
    second = relay.net.transports[1]
    second.cut()  # it was new: that is an answer
    assert relay.queue.rows[2].reply.startswith("451 4.4.2 ")
    assert relay.queue.rows[2].item.attempts == 1


def test_a_new_connection_that_ends_is_followed_by_another_for_what_waits() -> None:
    relay = Relay(*map(makeItem, (1, 2)), connectionsPerHop=1)
    relay.net.isQuick = False
    relay.run()
    relay.net.transports[0].cut()
    relay.net.transports[1].answer(ACCEPTED)
    assert relay.queue.states() == {1: "waiting", 2: "sent"}


def test_all_domains_may_have_the_same_hop() -> None:
    relay = Relay(makeItem(1), makeItem(2, address="a@other.example"), connectionsPerHop=1)
    relay.worker._hopOf = lambda domain: "smart.example"
    relay.run()
    assert relay.net.asked == ["smart.example"]
    assert len(relay.net.transports[0].sent) == 2


def test_a_connection_that_fails_by_a_fault_of_ours_defers_the_mail(
    caught: list[Failure],
) -> None:
    relay = Relay(makeItem())
    relay.net.refusals["x.example"] = ZeroDivisionError()
    relay.run()
    assert relay.queue.rows[1].reply == "451 4.3.0 Local error in processing, try again later"
    assert [each.type for each in caught] == [ZeroDivisionError]


# Claims


def test_what_is_queued_is_seen_when_poked_and_else_after_a_while() -> None:
    relay = Relay()
    relay.run()
    relay.queue.add(makeItem(1))
    relay.wait(seconds=4)
    assert relay.net.sent == []
    relay.wait(seconds=1)
    assert len(relay.net.sent) == 1
    relay.run(makeItem(2))
    assert len(relay.net.sent) == 2


def test_pokes_while_the_queue_is_asked_lead_to_one_more_question() -> None:
    relay = Relay()
    relay.queue.held = []
    relay.run()
    for _ in range(5):
        relay.worker.poke()
    assert relay.queue.asked == ["claim"]
    relay.queue.held.pop(0)()
    assert relay.queue.asked == ["claim", "claim"]
    relay.queue.held.pop(0)()
    assert relay.queue.asked == ["claim", "claim"]


def test_no_more_is_claimed_than_may_be_held_and_the_rest_follows() -> None:
    relay = Relay(*map(makeItem, range(1, 31)), held=8, connectionsPerHop=2)
    relay.net.isQuick = False
    relay.run()
    most = 0
    while any(each.pending for each in relay.net.transports):
        most = max(most, relay.worker.counters.held)
        for each in relay.net.transports:
            if each.pending:
                each.answer(ACCEPTED)
    assert most == 8
    assert len(relay.net.sent) == 30
    assert relay.clock.seconds() == 0  # nothing waited for a timer


def test_a_slow_hop_with_a_long_queue_does_not_hold_up_the_others() -> None:
    slow = [makeItem(n, address=f"u{n}@slow.example") for n in range(1, 40)]
    relay = Relay(*slow, held=20, connectionsPerHop=1)
    relay.net.isQuick = False
    relay.run()
    relay.net.transports[0].answer(ACCEPTED)
    relay.run(makeItem(99, address="a@quick.example"))
    assert "slow.example" in relay.queue.excluded[-1]
    assert relay.net.asked[-1] == "quick.example"
    relay.net.isQuick = True
    for transport in relay.net.transports:
        transport.answer(ACCEPTED)
    relay.wait(seconds=6)
    assert set(relay.queue.states().values()) == {"sent"}


def test_claims_are_renewed_for_as_long_as_the_mail_takes() -> None:
    relay = Relay(makeItem())
    relay.net.isQuick = False
    relay.run()
    relay.wait(minutes=30)
    assert relay.queue.rows[1].until > relay.now()
    relay.net.transports[0].answer(ACCEPTED)
    assert relay.queue.states() == {1: "sent"}
    relay.wait(minutes=5)
    assert relay.queue.asked.count("renew") == 16  # and none for nothing


def test_what_was_not_renewed_in_time_is_not_sent_any_more() -> None:
    relay = Relay(*map(makeItem, (1, 2)), connectionsPerHop=1)
    relay.net.isQuick = False
    relay.run()
    relay.queue.fault = Unavailable("away")
    relay.wait(seconds=301)
    relay.queue.fault = None
    relay.queue.rows[2].claim = "somebody else's"
    relay.net.transports[0].answer(ACCEPTED)
    assert envelopes(relay.net.sent) == [("u1@x.example",)]
    assert relay.queue.rows[2].claim == "somebody else's"


def test_what_was_not_renewed_in_time_is_not_answered_for_a_hop_out_of_reach() -> None:
    relay = Relay(makeItem())
    relay.net.isSlow = True
    relay.run()
    relay.queue.faults["renew"] = Unavailable("away")
    relay.wait(seconds=301)
    relay.net.refusals["x.example"] = REFUSED
    relay.net.let()
    assert relay.queue.states() == {1: "waiting"}
    assert relay.queue.rows[1].item.attempts == 0


# A database that is away


def test_a_queue_that_cannot_be_asked_is_asked_again() -> None:
    relay = Relay(makeItem())
    relay.queue.fault = Unavailable("away")
    relay.run()
    relay.wait(minutes=1)
    relay.queue.fault = None
    relay.wait(seconds=5)
    assert relay.queue.states() == {1: "sent"}


def test_what_was_answered_is_written_as_soon_as_the_database_is_back() -> None:
    relay = Relay(makeItem())
    relay.net.isQuick = False
    relay.run()
    relay.queue.fault = Unavailable("away")
    relay.net.transports[0].answer(REFUSED)
    relay.wait(minutes=3)
    assert relay.queue.states() == {1: "waiting"}
    relay.queue.fault = None
    relay.wait(seconds=31)
    assert relay.queue.states() == {1: "failed"}
    assert len(relay.queue.reports) == 1
    assert len(relay.net.sent) == 1  # and not by being sent again


def test_content_that_cannot_be_had_now_is_given_back() -> None:
    relay = Relay(makeItem())
    relay.queue.faults["read"] = Unavailable("away")
    relay.queue.faults["release"] = Unavailable("away")
    relay.run()
    assert relay.worker.counters.held == 0
    relay.queue.faults.clear()
    relay.wait(minutes=6)  # the claim lapses
    assert relay.queue.states() == {1: "sent"}
    assert relay.queue.rows[1].item.attempts == 1


def test_content_that_is_not_there_is_tried_again_like_any_other_fault(
    caught: list[Failure],
) -> None:
    relay = Relay(makeItem())
    relay.queue.faults["read"] = CannotStore("gone")
    relay.run()
    assert relay.queue.rows[1].nextAttemptAt == NOON + timedelta(minutes=1)
    assert [each.type for each in caught] == [CannotStore]


def test_a_report_that_cannot_be_stored_does_not_keep_the_mail_from_being_settled() -> None:
    relay = Relay(makeItem())
    relay.queue.faults["report"] = CannotStore("no such column")
    relay.net.reply = REFUSED
    relay.run()
    assert relay.queue.states() == {1: "failed"}
    assert relay.worker.counters.reports == 0


def test_a_report_that_fails_by_a_fault_of_ours_neither(caught: list[Failure]) -> None:
    relay = Relay(makeItem())
    relay.directory.fault = ZeroDivisionError()
    relay.net.reply = REFUSED
    relay.run()
    assert relay.queue.states() == {1: "failed"}
    assert [each.type for each in caught] == [ZeroDivisionError]


def test_an_outcome_that_cannot_be_written_lets_its_claim_lapse() -> None:
    relay = Relay(makeItem())
    relay.queue.faults["settle"] = CannotStore("no")
    relay.run()
    assert (relay.worker.counters.held, relay.worker.counters.sent) == (0, 0)
    relay.queue.faults["settle"] = ZeroDivisionError()


def test_a_fault_of_ours_while_an_outcome_is_written_does_not_stop_the_worker(
    caught: list[Failure],
) -> None:
    relay = Relay(makeItem())
    relay.queue.faults["settle"] = ZeroDivisionError()
    relay.run()
    assert [each.type for each in caught] == [ZeroDivisionError] * 2
    assert relay.worker.counters.held == 0
    relay.queue.faults.clear()
    relay.run(makeItem(2))
    assert relay.queue.rows[2].state == "sent"


def test_a_fault_of_ours_in_the_queue_is_logged_and_it_is_asked_again(
    caught: list[Failure],
) -> None:
    relay = Relay(makeItem())
    relay.queue.fault = ZeroDivisionError()
    relay.run()
    relay.queue.fault = None
    relay.wait(seconds=5)
    assert relay.queue.states() == {1: "sent"}
    assert [each.type for each in caught] == [ZeroDivisionError]


# The end


def test_an_idle_worker_stops_at_once() -> None:
    relay = Relay(makeItem())
    relay.run()
    stopped = relay.worker.stop(5)
    assert answered(stopped)
    assert relay.net.left == relay.net.transports
    assert relay.clock.getDelayedCalls() == []
    relay.queue.add(makeItem(2))
    relay.worker.poke()
    assert relay.queue.states()[2] == "waiting"


def test_what_is_under_way_may_end_and_the_rest_is_given_back() -> None:
    relay = Relay(*map(makeItem, (1, 2)), connectionsPerHop=1)
    relay.net.isQuick = False
    relay.run()
    stopped = relay.worker.stop(5)
    relay.wait(seconds=2)
    assert not answered(stopped)
    relay.net.transports[0].answer(ACCEPTED)
    assert answered(stopped)
    assert relay.queue.states() == {1: "sent", 2: "waiting"}
    assert relay.queue.rows[2].claim == ""
    assert relay.clock.getDelayedCalls() == []


def test_what_does_not_end_in_time_is_cut_off_and_as_due_as_it_was() -> None:
    relay = Relay(makeItem())
    relay.net.isQuick = False
    relay.run()
    stopped = relay.worker.stop(5)
    relay.wait(seconds=5)
    assert answered(stopped)
    assert not relay.net.transports[0].isConnected
    row = relay.queue.rows[1]
    assert (row.state, row.claim, row.item.attempts) == ("waiting", "", 0)
    assert row.nextAttemptAt == NOON


@pytest.mark.parametrize("under", ["connecting", "claiming", "writing", "waiting to write"])
def test_stopping_takes_no_longer_than_its_limit_whatever_hangs(under: str) -> None:
    relay = Relay(makeItem())
    if under == "connecting":
        relay.net.isSlow = True
    if under == "claiming":
        relay.queue.held = []
    if under == "writing":
        relay.net.isQuick = False
    if under == "waiting to write":
        relay.queue.faults["settle"] = Unavailable("away")
    relay.run()
    if under == "writing":
        relay.queue.held = []
        relay.net.transports[0].answer(ACCEPTED)
    stopped = relay.worker.stop(5)
    relay.wait(seconds=5)
    assert answered(stopped)
    assert relay.clock.getDelayedCalls() == []


def test_what_was_claimed_while_it_stopped_is_given_back() -> None:
    relay = Relay(makeItem())
    relay.queue.held = []
    relay.run()
    stopped = relay.worker.stop(5)
    relay.queue.held.pop()()
    relay.queue.held.pop()()  # the release
    assert answered(stopped)
    assert (relay.net.asked, relay.queue.rows[1].claim) == ([], "")


def test_the_queue_that_is_away_at_the_end_does_not_matter() -> None:
    relay = Relay(makeItem())
    relay.net.isQuick = False
    relay.run()
    relay.queue.fault = Unavailable("away")
    stopped = relay.worker.stop(5)
    relay.wait(seconds=5)
    assert answered(stopped)


def test_a_connection_in_the_making_is_left_where_the_worker_stops() -> None:
    relay = Relay(makeItem())
    relay.net.isSlow = True
    relay.run()
    stopped = relay.worker.stop(5)
    relay.net.let()
    assert answered(stopped)
    assert relay.net.sent == []
    assert relay.queue.rows[1].claim == ""
