"""A next hop may do what it likes, at any point: the relay neither hangs, nor fails, nor loses
mail, nor tells what it should not."""

from __future__ import annotations

import pytest
from twisted.python.failure import Failure

from mailsrv.extensions.auth import AuthClient
from mailsrv.extensions.starttls import StartTlsClient, TlsPolicy
from mailsrv.interfaces import IClientExtension
from mailsrv.relay.limits import RelayLimits
from relay.hostilehop import PROPER, Answer, HopSession, HostileRelay
from relay.relaysupport import makeItem

LETTER = b"Subject: x\r\n\r\n.dots\r\nend\r\n"
BINARY = b"Subject: x\r\n\r\nno\nend"
TRACE = b"Received: from a\r\n\tby b; date\r\n"
# No attempt takes longer: the longest that anything is waited for is the ten minutes of the end.
LONGEST = 700.0


def drop(session: HopSession) -> None:
    session.hangUp()


def closing(session: HopSession) -> None:
    session.say(b"421 4.3.2 mx.x.example bye\r\n")
    session.hangUp()


def trickle(session: HopSession) -> None:
    """A reply that goes on, an octet a minute."""
    for number in range(20):
        session.say(b"250-more\r\n"[number % 10 :][:1], after=60.0 * number)


FAULTS = {
    "drop": drop,
    "421": closing,
    "421 and stays": b"421 4.3.2 mx.x.example bye\r\n",
    "450": b"450 4.2.0 later\r\n",
    "silence": b"",
    "half a reply": b"250 o",
    "half a reply of lines": b"250-ok\r\n",
    "trickle": trickle,
    "another protocol": b"HTTP/1.1 200 OK\r\n\r\n",
    "codes that differ": b"250-ok\r\n550 no\r\n",
    "NUL": b"250 o\0k\r\n",
    "bare CR": b"250 o\rk\r\n",
    "bare LF": b"250 ok\n",
    "no CRLF, ever": b"250 " + b"x" * 1_000_000,
    "lines without end": b"250-ok\r\n" * 100_000,
    "1yz": b"150 ok\r\n",
    "6yz": b"650 ok\r\n",
    "a letter for a digit": b"25O ok\r\n",
    "nothing but CRLF": b"\r\n" * 1000,
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28",
}  # fmt: skip
POINTS = ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA", "."]
EHLO = {
    "in groups": PROPER["EHLO"],
    "one by one": b"250 mx.x.example\r\n",
    "in chunks": b"250-mx.x.example\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 BINARYMIME\r\n",
}


def relayTo(manner: str, **answers: object) -> HostileRelay:
    octets = BINARY if manner == "in chunks" else LETTER
    relay = HostileRelay(octets, EHLO=EHLO[manner])
    relay.hop.answers.update(answers)
    return relay


def assertOver(relay: HostileRelay, caught: list[Failure]) -> None:
    """Nothing is left open, nothing was logged as a failure."""
    relay.wait(seconds=20)
    assert all(session.ending for session in relay.hop.sessions)
    assert caught == []
    assert relay.worker.counters.connections == 0


def assertSentNext(relay: HostileRelay, caught: list[Failure]) -> None:
    """Once the hop behaves, the mail goes out, whole."""
    relay.hop.answers.clear()
    relay.hop.contents.clear()
    relay.settle(3600)
    assert relay.row.state == "sent"
    assert relay.hop.contents == [TRACE + relay.queue.octets]
    assertOver(relay, caught)


@pytest.mark.parametrize("manner", EHLO)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_at_any_point_puts_the_mail_off_and_it_goes_out_later(
    fault: str, manner: str, caught: list[Failure]
) -> None:
    for point in POINTS:
        if manner == "in chunks":
            point = {"DATA": "BDAT", ".": "BDAT"}.get(point, point)
        relay = relayTo(manner, **{point: FAULTS[fault]})
        relay.run()
        assert relay.settle(LONGEST) < LONGEST
        assert relay.row.state == "waiting", point
        assert relay.row.reply.startswith("4"), point
        assert relay.row.item.attempts == 1
        assertOver(relay, caught)
        assertSentNext(relay, caught)
        assert relay.queue.reports == []


@pytest.mark.parametrize("manner", EHLO)
@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_comes_of_quit_the_mail_is_sent(
    fault: str, manner: str, caught: list[Failure]
) -> None:
    relay = relayTo(manner, QUIT=FAULTS[fault])
    relay.run()
    relay.settle(LONGEST)
    assert relay.row.state == "sent"
    relay.wait(seconds=30)
    assertOver(relay, caught)


@pytest.mark.parametrize("manner", EHLO)
@pytest.mark.parametrize(
    "behind",
    [b"250 2.0.0 again\r\n", b"421 4.3.2 bye\r\n", b"550 5.0.0 no\r\n", b"\0\0", b"HTTP", drop],
)
def test_what_was_taken_is_taken_whatever_is_said_behind_it(
    behind: object, manner: str, caught: list[Failure]
) -> None:
    def answer(session: HopSession) -> None:
        if callable(behind):
            session.say(b"250 2.0.0 taken\r\n")
            behind(session)
        else:
            assert isinstance(behind, bytes)
            session.say(b"250 2.0.0 taken\r\n" + behind)

    relay = relayTo(manner, **{"BDAT" if manner == "in chunks" else ".": answer})
    relay.run()
    relay.settle(LONGEST)
    assert (relay.row.state, relay.row.reply) == ("sent", "250 2.0.0 taken")
    assertOver(relay, caught)


@pytest.mark.parametrize("manner", ["in groups", "one by one"])
@pytest.mark.parametrize("point", ["CONNECT", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a_reply_that_is_said_twice_is_not_the_reply_to_what_comes_next(
    point: str, manner: str, caught: list[Failure]
) -> None:
    relay = relayTo(manner)
    proper = relay.hop.proper.get(point, b"250 2.0.0 ok\r\n")
    relay.hop.answers[point] = proper * 2
    relay.run()
    relay.settle(LONGEST)
    assert relay.row.state == "waiting"
    assertOver(relay, caught)
    assertSentNext(relay, caught)


@pytest.mark.parametrize("manner", EHLO)
def test_success_at_the_wrong_point_is_none(manner: str, caught: list[Failure]) -> None:
    for point, said in [
        ("CONNECT", b"250 ok\r\n"),
        ("EHLO", b"354 go\r\n"),
        ("MAIL", b"354 go\r\n"),
        ("RCPT", b"354 go\r\n"),
        ("DATA", b"250 ok\r\n"),
        (".", b"354 go\r\n"),
        ("BDAT", b"354 go\r\n"),
    ]:
        if (point == "BDAT") != (manner == "in chunks"):
            continue
        relay = relayTo(manner, **{point: said})
        relay.run()
        relay.settle(LONGEST)
        assert relay.row.state == "waiting", point
        assertOver(relay, caught)
        assertSentNext(relay, caught)


@pytest.mark.parametrize(
    "line",
    [
        b"SIZE " + b"9" * 2000,
        b"SIZE -1",
        b"SIZE 1e3",
        b"SIZE 0x10",
        b"SIZE \xd9\xa3",
        b"SIZE 10 20",
        b"SIZE",
        b"SIZE=1",
        b"CHUNKING x y z",
        b"8BITMIME \x1b[2J",
        b"PIPELINING\tPIPELINING",
        b"=?utf-8?q?x?=",
        b"\xff\xfe\xfd",
        b"",
        b"LIMITS RCPTMAX=0 MAILMAX=0",
    ],
)
def test_nonsense_in_the_reply_to_ehlo_is_passed_over(line: bytes, caught: list[Failure]) -> None:
    relay = relayTo("one by one", EHLO=b"250-mx\r\n250-" + line + b"\r\n250 X\r\n")
    relay.run()
    relay.settle(LONGEST)
    assert relay.row.state == "sent"
    assert relay.hop.contents == [TRACE + LETTER]
    assertOver(relay, caught)


def test_keywords_by_the_thousand_put_the_mail_off(caught: list[Failure]) -> None:
    many = b"".join(b"250-X-%d\r\n" % number for number in range(5000))
    relay = relayTo("in groups", EHLO=b"250-mx\r\n" + many + b"250 SIZE\r\n")
    relay.run()
    relay.settle(LONGEST)
    assert relay.row.state == "waiting"
    assertOver(relay, caught)


def test_text_outside_ascii_in_each_reply_does_not_matter(caught: list[Failure]) -> None:
    relay = relayTo("one by one")
    relay.hop.answers = {
        point: relay.hop.proper.get(point, b"250 ok\r\n")[:4]
        + b"gr\xfc\xc3\xbc\xe2\x80\xa8\xff\r\n"
        for point in (*POINTS, "QUIT")
    }
    relay.run()
    relay.settle(LONGEST)
    assert relay.row.state == "sent"
    relay.row.reply.encode()
    assertOver(relay, caught)


def test_connections_that_ended_while_they_were_idle_put_no_mail_off(
    caught: list[Failure],
) -> None:
    relay = relayTo("in groups")
    greet = iter([0.0, 0.5, 0.0])
    relay.hop.answers["CONNECT"] = lambda session: session.say(PROPER["CONNECT"], next(greet))
    relay.run(makeItem(2, message={"size": len(LETTER)}))
    relay.clock.pump([0] * 20 + [0.6] + [0] * 5)  # one has sent both, and both are idle
    assert [relay.queue.rows[number].state for number in (1, 2)] == ["sent", "sent"]
    assert len(relay.hop.sessions) == 2
    for session in relay.hop.sessions:
        session.say(b"421 4.3.2 mx.x.example bye\r\n")
    relay.clock.pump([0.1, 0])
    relay.run(makeItem(3, message={"size": len(LETTER)}))
    relay.wait(seconds=5)
    assert relay.queue.rows[3].state == "sent"
    assert relay.queue.rows[3].settled == 1
    assertOver(relay, caught)


@pytest.mark.parametrize("manner", ["in groups", "one by one"])
@pytest.mark.parametrize(
    "refusal", [b"554 5.5.0 too many errors\r\n", b"450 no\r\n", drop, closing]
)
def test_what_is_said_to_rset_is_not_said_of_the_message_behind_it(
    refusal: Answer, manner: str, caught: list[Failure]
) -> None:
    relay = HostileRelay(LETTER, EHLO=EHLO[manner])
    said = iter([b"550 5.1.1 no such user\r\n"])
    relay.hop.answers = {
        "RCPT": lambda session: session.say(next(said, b"250 2.1.5 ok\r\n")),
        "RSET": refusal,
    }
    relay.worker.limits = RelayLimits(connectionsPerHop=1)
    relay.run(makeItem(2, message={"size": len(LETTER)}))
    relay.awaitAll(LONGEST)
    assert relay.queue.states() == {1: "failed", 2: "sent"}
    assert len(relay.hop.sessions) == 2
    assertOver(relay, caught)


@pytest.mark.parametrize("size", [100, 200_000, 3_000_000])
@pytest.mark.parametrize("point", ["MAIL", "DATA"])
def test_who_stops_reading_is_given_up(size: int, point: str, caught: list[Failure]) -> None:
    def deaf(session: HopSession) -> None:
        session.isDeaf = True
        if point == "DATA":
            session.say(b"354 go\r\n")

    relay = HostileRelay(b"Subject: x\r\n\r\n" + b"x" * 78 + b"\r\n" * (size // 2))
    relay.hop.answers[point] = deaf
    relay.run()
    assert relay.settle(LONGEST) < LONGEST
    assert relay.row.state == "waiting"
    assertOver(relay, caught)
    assertSentNext(relay, caught)


@pytest.mark.parametrize(
    ("point", "refusal"),
    [("MAIL", b"555 5.5.4 RET? ENVID?\r\n"), ("RCPT", b"501 5.5.4 NOTIFY?\r\n")],
)
def test_a_hop_that_offers_dsn_and_refuses_its_parameters_refuses_the_mail(
    point: str, refusal: bytes, caught: list[Failure]
) -> None:
    relay = relayTo("in groups", EHLO=b"250-mx\r\n250 DSN\r\n", **{point: refusal})
    relay.run()
    relay.settle(LONGEST)
    assert relay.row.state == "failed"
    assert len(relay.queue.reports) == 1
    assertOver(relay, caught)


# Where TLS is required

KNOWN = {b"EHLO", b"HELO", b"STARTTLS", b"QUIT"}
TLS_FAULTS = {
    **FAULTS,
    "refused": b"502 5.5.1 no\r\n",
    "another success": b"250 sure\r\n",
    "no TLS": b"220 go\r\n",
    "injected": b"220 go\r\n250-mx\r\n250 AUTH PLAIN\r\n",
    "half injected": b"220 go\r\n2",
    "injected before": b"250 mx\r\n220 go\r\n",
}


@pytest.mark.parametrize("fault", TLS_FAULTS)
@pytest.mark.parametrize("hasLogin", [True, False])
def test_nothing_is_told_where_tls_is_required_and_does_not_come_about(
    hasLogin: bool, fault: str, caught: list[Failure]
) -> None:
    extensions: list[IClientExtension] = [StartTlsClient(TlsPolicy.VERIFIED)]
    if hasLogin:
        extensions.append(AuthClient("waldo", "krokodil"))
    offer = b"250-mx\r\n250-AUTH PLAIN LOGIN\r\n250 STARTTLS\r\n"
    for point in ("CONNECT", "EHLO", "STARTTLS", "QUIT"):
        relay = HostileRelay(LETTER, extensions, EHLO=offer)
        relay.hop.answers["STARTTLS"] = b"454 4.7.0 not now\r\n"
        relay.hop.answers[point] = TLS_FAULTS[fault]
        relay.run()
        assert relay.settle(LONGEST) < LONGEST
        assert relay.row.state == "waiting" or relay.row.reply.startswith("5"), point
        assert relay.hop.verbs <= KNOWN
        assert relay.hop.contents == []
        assertOver(relay, caught)


@pytest.mark.parametrize(
    "ehlo", [b"250-mx\r\n250 AUTH PLAIN LOGIN\r\n", b"250 mx\r\n", b"502 5.5.1 what?\r\n"]
)
def test_nothing_is_told_where_starttls_was_stripped(ehlo: bytes, caught: list[Failure]) -> None:
    login = AuthClient("waldo", "krokodil")
    relay = HostileRelay(LETTER, [StartTlsClient(TlsPolicy.VERIFIED), login], EHLO=ehlo)
    relay.run()
    relay.settle(LONGEST)
    assert relay.row.state == "waiting"
    assert relay.hop.verbs <= KNOWN
    assertOver(relay, caught)
