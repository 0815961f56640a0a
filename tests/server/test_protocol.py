"""Manners of the wire: time, limits, pauses, closing (RFC 5321 §3.8, §4.5.3)."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.extensions.extension import ServerExtension
from mailsrv.extensions.standard import standardExtensions
from mailsrv.extensions.starttls import StartTlsServer
from mailsrv.interfaces import ISession, MaybeDeferredAnswer
from mailsrv.server.protocol import MAX_ANY_LINE
from mailsrv.server.site import Listener
from mailsrv.server.wire import MAX_LINES_A_TURN
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import Command
from mailsrv.testing import HeldStore
from smtpconversation import (
    ENVELOPE,
    MESSAGE,
    Client,
    Server,
    TlsLikeWire,
    TurningClock,
    Wire,
    addressOf,
    codesOf,
    limited,
)

TIMED_OUT = b"421 4.4.2 mx.example.org timed out waiting for you\r\n"


class TestIdle(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = Server()
        self.client = self.server.greeted()

    def after(self, seconds: float) -> bytes:
        self.server.clock.advance(seconds)
        return self.client.heard()

    def test_ten_minutes_and_no_more(self) -> None:
        self.assertEqual(self.after(600), b"")
        self.assertEqual(self.after(1.5), TIMED_OUT)
        self.assertFalse(self.client.isOpen)

    def test_any_complete_command_starts_the_time_anew(self) -> None:
        for command in ("NOOP", "FOO", "RSET now", "x" * 3000, "x" * 30_000, ""):
            self.assertEqual(self.after(599), b"", command)
            self.client.say(command)
        self.assertEqual(self.after(599), b"")

    def test_half_a_command_does_not(self) -> None:
        for octet in b"NOOP" + b"x" * 20_000:
            self.client.send(bytes([octet]))
            if octet != ord("x"):
                self.assertEqual(self.after(140), b"")
        self.assertEqual(self.after(60), TIMED_OUT)

    def test_within_data_the_time_counts_between_octets_up_to_the_first_minute(self) -> None:
        self.client.say(*ENVELOPE, "DATA")
        for _ in range(4):
            self.client.send(b"x" * 100_000)
            self.assertEqual(self.after(599), b"")
        self.assertEqual(self.after(3), TIMED_OUT)
        self.assertEqual(self.server.factory.site.budget.disk.held, 0)

    def test_a_transfer_slower_than_100_octets_a_second_is_cut_after_a_minute(self) -> None:
        self.client.say(*ENVELOPE, "DATA")
        for _ in range(59):
            self.client.send(b"x" * 50)
            self.assertEqual(self.after(1), b"")
        said = b""
        for _ in range(3):
            if self.client.isOpen:
                self.client.send(b"x")
            said += self.after(1)
        self.assertEqual(said, TIMED_OUT)

    def test_a_transfer_that_is_fast_enough_may_take_all_day(self) -> None:
        self.client.say(*ENVELOPE, "DATA")
        for _ in range(3600):
            self.client.send(b"x" * 98 + b"\r\n")
            self.assertEqual(self.after(1), b"")
        self.assertEqual(self.client.codes("."), [250])

    def test_the_speed_of_one_message_is_not_that_of_the_next(self) -> None:
        self.client.say(*ENVELOPE, "DATA", "x" * 900, ".")
        self.client.say(*ENVELOPE)
        self.assertEqual(self.after(500), b"")
        self.client.say("DATA")
        self.assertEqual(self.after(59), b"")
        self.assertEqual(self.client.codes(*MESSAGE), [250])

    def test_octets_that_are_drained_are_timed_too(self) -> None:
        self.client.send(b"BDAT 1000000\r\n")
        self.client.send(b"x" * 10)
        self.after(30)
        self.assertEqual(self.after(32), TIMED_OUT)

    def test_the_limit_is_an_option(self) -> None:
        server = Server(limits=limited(timeout=5.0))
        client = server.connect()
        client.heard()
        server.clock.advance(6.5)
        self.assertEqual(client.heard(), TIMED_OUT)

    def test_one_timer_serves_all_and_none_is_left_behind(self) -> None:
        others = [self.server.connect() for _ in range(10)]
        self.server.clock.advance(0)
        self.assertEqual(len(self.server.clock.getDelayedCalls()), 1)
        for client in (*others, self.client):
            client.leave()
        self.assertEqual(self.server.clock.getDelayedCalls(), [])


class TestClientThatDoesNotRead(SynchronousTestCase):
    def test_it_is_not_read_either_and_runs_into_the_limit(self) -> None:
        server = Server()
        client = server.greeted()
        client.wire.producer.pauseProducing()  # as the transport does where its buffer is full
        self.assertEqual(client.say("NOOP"), b"")
        self.assertEqual(client.wire.producerState, "paused")
        server.clock.advance(602)
        self.assertEqual(client.heard(), TIMED_OUT)
        self.assertEqual(client.wire.ending, "half")
        server.clock.advance(6)
        self.assertEqual(client.wire.ending, "aborted")

    def test_it_goes_on_where_it_stood_once_it_reads(self) -> None:
        client = Server().greeted()
        producer = client.wire.producer
        producer.pauseProducing()
        client.say("NOOP", "VRFY alice")
        producer.resumeProducing()
        self.assertEqual(codesOf(client.heard()), [250, 250])
        self.assertEqual(client.wire.producerState, "producing")

    def test_two_reasons_to_wait_are_two(self) -> None:
        server = Server()
        client = server.greeted("MAIL FROM:<>")
        producer = client.wire.producer
        client.say("RCPT TO:<slow@example.org>", "NOOP")
        producer.pauseProducing()
        server.directory.answer()
        self.assertEqual(codesOf(client.heard()), [250], "the answer is said, the NOOP waits")
        producer.resumeProducing()
        self.assertEqual(codesOf(client.heard()), [250])

    def test_and_in_the_other_order(self) -> None:
        server = Server()
        client = server.greeted("MAIL FROM:<>")
        producer = client.wire.producer
        client.say("RCPT TO:<slow@example.org>", "NOOP")
        producer.pauseProducing()
        producer.resumeProducing()
        self.assertEqual(client.heard(), b"")
        server.directory.answer()
        self.assertEqual(codesOf(client.heard()), [250, 250])
        producer.stopProducing()

    def test_replies_are_flushed_at_64_kib_and_the_client_held_at_what_it_has_not_read(
        self,
    ) -> None:
        class Full(Wire):
            writes = 0

            def write(self, data: bytes) -> None:
                super().write(data)
                self.writes += 1
                if len(data) > 65_536:
                    self.producer.pauseProducing()

        directory = Server().directory
        directory.verify = lambda string: r.reply(250, "2.1.5", *["x" * 500] * 40)
        server = Server(directory=directory)
        client = server.connectBy(Full(addressOf("192.0.2.1"), addressOf("192.0.2.7")))
        client.heard()
        said = client.say(*["VRFY x"] * 50)
        self.assertLess(len(said), 65_536 + 25_000)
        client.wire.producer.resumeProducing()
        self.assertGreater(len(client.heard()), 65_536)


class TestClosing(SynchronousTestCase):
    def test_221_closes_at_once(self) -> None:
        client = Server().greeted()
        client.say("QUIT")
        self.assertEqual(client.wire.ending, "whole")

    def test_behind_a_421_what_the_client_still_sends_is_read_over_for_5_seconds(self) -> None:
        server = Server()
        client = server.greeted("MAIL FROM:<>")
        self.assertEqual(client.codes("RCPT TO:<down@example.org>", "DATA"), [421])
        self.assertEqual(client.wire.ending, "half")
        self.assertEqual(client.wire.producerState, "producing")
        self.assertEqual(client.say("Subject: still sending", "."), b"")
        server.clock.advance(4.5)
        self.assertEqual(client.wire.ending, "half")
        server.clock.advance(1)
        self.assertEqual(client.wire.ending, "aborted")

    def test_behind_a_421_a_client_that_was_not_read_is_read_again(self) -> None:
        server = Server()
        client = server.greeted("MAIL FROM:<>")
        server.directory.isSlow = True
        client.say("RCPT TO:<down@example.org>")
        client.say("DATA")
        self.assertEqual(client.wire.producerState, "paused")
        server.directory.answer()
        self.assertEqual(codesOf(client.heard()), [421])
        self.assertEqual(client.wire.producerState, "producing")

    def test_what_cannot_be_closed_by_halves_is_closed(self) -> None:
        server = Server()
        client = server.connectBy(TlsLikeWire(addressOf("192.0.2.1"), addressOf("192.0.2.7")))
        client.say("MAIL", "HELO c", "MAIL FROM:<>", "RCPT TO:<down@example.org>")
        self.assertTrue(client.wire.disconnecting)

    def test_nothing_is_said_behind_the_last_reply(self) -> None:
        server = Server()
        client = server.greeted("MAIL FROM:<>")
        client.say("RCPT TO:<down@example.org>", "NOOP", "QUIT")
        server.factory.shutdown()
        server.clock.advance(3)
        self.assertEqual(client.say("NOOP"), b"")

    def test_a_client_that_comes_and_goes_leaves_nothing_behind(self) -> None:
        server = Server()
        for _ in range(3):
            server.greeted(*ENVELOPE, "DATA", "half a line").leave()
        self.assertEqual(server.factory.connections, 0)
        self.assertEqual(server.factory.site.budget.memory.held, 0)


class TestConnections(SynchronousTestCase):
    TOO_MANY = b"421 4.7.0 mx.example.org too many connections, try again later\r\n"

    def test_over_the_limit_it_is_421_in_place_of_the_greeting(self) -> None:
        server = Server(maxConnections=2)
        clients = [server.connect() for _ in range(3)]
        self.assertEqual([codesOf(client.heard()) for client in clients[:2]], [[220], [220]])
        self.assertEqual(clients[2].heard(), self.TOO_MANY)
        self.assertFalse(clients[2].isOpen)
        clients[2].leave()
        clients[0].leave()
        self.assertEqual(codesOf(server.connect().heard()), [220])

    def test_each_client_address_has_a_limit_of_its_own(self) -> None:
        server = Server(maxConnectionsPerClient=1)
        first = server.connect("192.0.2.1")
        self.assertEqual(codesOf(server.connect("192.0.2.2").heard()), [220])
        self.assertEqual(codesOf(server.connect("2001:db8::1").heard()), [220])
        again = server.connect("192.0.2.1")
        self.assertEqual(again.heard(), self.TOO_MANY)
        again.leave()
        first.leave()
        self.assertEqual(codesOf(server.connect("192.0.2.1").heard()), [220])

    def test_clients_of_a_unix_socket_are_not_one_client(self) -> None:
        server = Server(maxConnectionsPerClient=1)
        server.connect("")
        self.assertEqual(codesOf(server.connect("").heard()), [220])

    def test_all_listeners_share_the_count(self) -> None:
        server = Server(maxConnections=1)
        server.connect()
        other = server.connect(listener=Listener(isLmtp=True))
        self.assertEqual(other.heard(), self.TOO_MANY)

    def test_whether_it_is_loopback_takes_both_ends(self) -> None:
        server = Server()
        for peer, host, isLoopback in (
            ("127.0.0.1", "127.0.0.1", True),
            ("::1", "::1", True),
            ("", "", True),
            ("127.0.0.1", "192.0.2.1", False),
            ("192.0.2.7", "127.0.0.1", False),
            ("192.0.2.7", "192.0.2.1", False),
        ):
            session = server.connect(peer, host).protocol.session
            self.assertEqual((session.peer, session.isLoopback), (peer, isLoopback))


class TestFairness(SynchronousTestCase):
    def test_100_commands_a_turn_then_others_have_theirs(self) -> None:
        server = Server(clock=TurningClock())
        client, other = server.greeted(), server.greeted()
        client.protocol.dataReceived(b"NOOP\r\n" * 250)
        other.protocol.dataReceived(b"NOOP\r\n")
        self.assertEqual(len(codesOf(client.heard())), MAX_LINES_A_TURN)
        self.assertEqual(codesOf(other.heard()), [250])
        server.clock.pump([0] * 4)
        self.assertEqual(len(codesOf(client.heard())), 150)

    def test_messages_do_not_win_more_commands(self) -> None:
        client = Server(clock=TurningClock()).greeted()
        message = b"MAIL FROM:<>\r\nRCPT TO:<alice@example.org>\r\nDATA\r\n.\r\n"
        client.protocol.dataReceived(message * 100)
        self.assertLessEqual(len(codesOf(client.heard())), MAX_LINES_A_TURN * 4 // 3 + 1)
        client.clock.pump([0] * 6)
        self.assertEqual(len(client.everything().split(b"id=")), 101)

    def test_a_client_that_goes_between_two_turns_is_not_answered(self) -> None:
        client = Server(clock=TurningClock()).greeted()
        client.protocol.dataReceived(b"NOOP\r\n" * 250)
        self.assertEqual(len(codesOf(client.heard())), MAX_LINES_A_TURN)
        client.leave()
        client.clock.pump([0] * 4)
        self.assertEqual(client.heard(), b"")

    def test_over_any_transport_replies_go_out_when_the_turn_ends(self) -> None:
        client = Server().greeted()
        client.wire.clear()
        client.protocol.dataReceived(b"NOOP\r\n")
        self.assertEqual(client.wire.value(), b"")
        client.clock.advance(0)
        self.assertEqual(client.wire.value(), b"250 2.0.0 OK\r\n")

    def test_replies_of_one_segment_go_out_in_one_write(self) -> None:
        writes = []
        client = Server().greeted()
        client.wire.write = writes.append
        client.say("NOOP", "NOOP", *ENVELOPE, "DATA")
        self.assertEqual(len(writes), 1)


class TestLongLines(SynchronousTestCase):
    def test_ten_megabytes_are_one_500_and_no_memory(self) -> None:
        client = Server().greeted()
        piece = b"x" * 65_536
        tracemalloc.start()
        try:
            for _ in range(160):
                self.assertEqual(client.send(piece), b"")
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        self.assertLess(peak, 300_000)
        self.assertEqual(client.codes("", "NOOP"), [500, 250])

    def test_in_one_piece_too(self) -> None:
        client = Server().greeted()
        self.assertEqual(
            client.codes("x" * 10_000_000, "NOOP", "y" * 20_000, "NOOP"), [500, 250] * 2
        )

    def test_between_the_limit_of_a_command_and_of_any_line(self) -> None:
        client = Server().greeted()
        for length in (2047, 2048, MAX_ANY_LINE - 3, MAX_ANY_LINE - 2, MAX_ANY_LINE - 1, 20_000):
            self.assertEqual(client.codes("NOOP " + "x" * (length - 5), "NOOP"), [500, 250], length)
        self.assertEqual(client.heard(), b"")

    def test_a_long_line_in_a_dialogue_ends_the_dialogue(self) -> None:
        client = Server(extensions=[*standardExtensions(), Dialogue()]).greeted("XLINES")
        self.assertEqual(client.codes("x" * 12_286), [354])
        self.assertEqual(client.codes("x" * 12_287, "NOOP"), [500, 250])

    def test_an_extensions_command_may_be_longer(self) -> None:
        client = Server(extensions=[*standardExtensions(), Dialogue()]).greeted()
        self.assertEqual(client.codes("XLINES " + "x" * (4096 - 9), "*"), [354, 501])
        self.assertEqual(client.codes("XLINES " + "x" * (4096 - 8)), [500])


class Dialogue(ServerExtension):
    """XLINES: lines until `*`; XLATER the same, each answered when the test says."""

    keyword = "XLINES"
    verbs = {"XLINES": 4096, "XLATER": 2048, "XBREAK": 2048, "XCHUNK": 2048, "XDRAIN": 2048}

    def __init__(self) -> None:
        self.later: list[Deferred[Any]] = []

    def atCommand(self, session: ISession, command: Command) -> MaybeDeferredAnswer:
        if command.verb == "XBREAK":
            raise ZeroDivisionError("secret")
        if command.verb in ("XCHUNK", "XDRAIN"):
            octets = int(command.argument)
            if command.verb == "XCHUNK":
                session.expectContent(octets, True)
            else:
                session.drainContent(octets, r.NOT_IMPLEMENTED)
            self.later.append(Deferred())
            return self.later[-1]
        session.expectLines(self.line if command.verb == "XLINES" else self.lineLater)
        return r.START_MAIL_INPUT

    def line(self, octets: bytes) -> r.Reply:
        if octets == b"break":
            raise ZeroDivisionError("secret")
        return r.BAD_PARAMETER if octets == b"*" else r.START_MAIL_INPUT

    def lineLater(self, octets: bytes) -> Deferred[Any]:
        self.later.append(Deferred())
        return self.later[-1]


class TestExtensionsOnTheWire(SynchronousTestCase):
    """expectLines, expectContent, drainContent, answered at once and later."""

    def setUp(self) -> None:
        self.dialogue = Dialogue()
        self.server = Server(extensions=[*standardExtensions(), self.dialogue])
        self.client = self.server.greeted()

    def test_a_dialogue_goes_on_while_it_is_answered_3yz(self) -> None:
        self.assertEqual(
            self.client.codes("XLINES", "a", "", "*", "NOOP"), [354, 354, 354, 501, 250]
        )

    def test_a_dialogue_takes_any_octets_but_lf(self) -> None:
        self.client.say("XLINES")
        self.assertEqual(codesOf(self.client.send(b"\xff\x00\r\n*\r\n")), [354, 501])

    def test_a_bare_lf_ends_a_dialogue(self) -> None:
        self.client.say("XLINES")
        said = self.client.send(b"a\nNOOP\r\n")
        self.assertEqual(codesOf(said), [500, 250])
        self.assertIn(b"Bare LF", said)

    def test_a_dialogue_answered_later_waits(self) -> None:
        self.assertEqual(self.client.codes("XLATER", "a", "b", "NOOP"), [354])
        self.dialogue.later[0].callback(r.START_MAIL_INPUT)
        self.assertEqual(codesOf(self.client.heard()), [354])
        self.dialogue.later[1].callback(r.OK)
        self.assertEqual(codesOf(self.client.heard()), [250, 250])

    def test_a_dialogue_that_breaks_is_over_with_451(self) -> None:
        self.assertEqual(self.client.codes("XLINES", "break", "NOOP"), [354, 451, 250])
        self.client.say("XLATER", "a")
        self.dialogue.later[0].errback(ZeroDivisionError("secret"))
        self.assertEqual(codesOf(self.client.heard()), [451])
        self.assertEqual(self.client.codes("NOOP"), [250])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_errors_in_a_dialogue_count(self) -> None:
        codes = self.client.codes(*["XLINES", "*"] * 21)
        self.assertEqual(codes[-2:], [354, 421])

    def test_a_command_that_breaks_is_451_and_logged_once(self) -> None:
        said = self.client.say("XBREAK", "NOOP")
        self.assertEqual(codesOf(said), [451, 250])
        self.assertNotIn(b"secret", said)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_content_announced_later_comes_like_any(self) -> None:
        for octets in (0, 5):
            self.client.say(*ENVELOPE)
            self.client.send(b"XCHUNK %d\r\n" % octets + b"hello"[:octets] + b"NOOP\r\n")
            self.dialogue.later.pop().callback(None)
            self.assertEqual(codesOf(self.client.heard()), [250, 250], octets)
        self.assertEqual(self.server.store.contents, [b"", b"hello"])

    def test_content_drained_later_too(self) -> None:
        for octets in (0, 5):
            self.client.send(b"XDRAIN %d\r\n" % octets + b"hello"[:octets] + b"NOOP\r\n")
            self.dialogue.later.pop().callback(None)
            self.assertEqual(codesOf(self.client.heard()), [502, 250], octets)

    def test_an_empty_chunk_announced_later_is_held_for_its_commit(self) -> None:
        server = Server(store=HeldStore(), extensions=[*standardExtensions(), self.dialogue])
        client = server.greeted(*ENVELOPE)
        client.say("XCHUNK 0", "NOOP")
        self.dialogue.later.pop().callback(None)
        self.assertEqual(client.heard(), b"")
        client.leave()
        self.assertEqual(server.store.waiting, [])


class TestBdat(SynchronousTestCase):
    def test_a_last_chunk_of_no_octets_does_not_wait_for_more(self) -> None:
        server = Server()
        client = server.greeted(*ENVELOPE)
        self.assertEqual(codesOf(client.send(b"BDAT 5\r\nhello")), [250])
        self.assertEqual(client.codes("BDAT 0 LAST"), [250])
        self.assertEqual(server.store.contents, [b"hello"])

    def test_the_21st_drained_chunk_is_421(self) -> None:
        client = Server().greeted()
        codes = codesOf(client.send(b"BDAT 3\r\nabc" * 21 + b"NOOP\r\n"))
        self.assertEqual(codes, [503] * 20 + [421])


class TestTls(SynchronousTestCase):
    class Tls(Wire):
        started = None

        def startTLS(self, creator: Any) -> None:
            assert self.producerState == "producing", "a paused transport never shakes hands"
            assert self.value().splitlines()[-1].startswith(b"220 2.0.0 ")
            self.started = creator

    def setUp(self) -> None:
        self.tls = object()
        self.server = Server(extensions=[*standardExtensions(), StartTlsServer()], tls=self.tls)
        self.client = self.server.connectBy(
            self.Tls(addressOf("192.0.2.1"), addressOf("192.0.2.7"))
        )
        self.client.say("EHLO c")

    def test_plaintext_behind_starttls_is_never_obeyed(self) -> None:
        self.assertEqual(self.client.codes("STARTTLS", "NOOP"), [220])
        self.assertIs(self.client.wire.started, self.tls)
        self.client.protocol.handshakeCompleted()
        self.assertEqual(self.client.heard(), b"")
        self.assertEqual(self.client.codes("NOOP", "MAIL FROM:<>"), [250, 503])

    def test_nothing_learnt_before_is_known_afterwards(self) -> None:
        self.client.say(*ENVELOPE, "STARTTLS")
        self.client.protocol.handshakeCompleted()
        self.assertEqual(self.client.codes("RCPT TO:<bob@example.org>"), [503])
        said = self.client.say("EHLO c")
        self.assertNotIn(b"STARTTLS", said)
        session = self.client.protocol.session
        self.assertTrue(session.isSecure)

    def test_the_handshake_is_read_though_the_client_was_not(self) -> None:
        self.client.say("MAIL FROM:<>", "RCPT TO:<slow@example.org>")
        self.client.say("STARTTLS")
        self.assertEqual(self.client.wire.producerState, "paused")
        self.server.directory.answer()
        self.assertIs(self.client.wire.started, self.tls)

    def test_a_handshake_that_is_not_completed_is_cut(self) -> None:
        self.client.say("STARTTLS")
        self.server.clock.advance(31)
        self.assertEqual(self.client.wire.ending, "aborted")

    def test_a_server_that_stops_does_not_wait_for_a_handshake(self) -> None:
        self.client.say("STARTTLS")
        self.server.factory.shutdown()
        self.assertEqual(self.client.wire.ending, "aborted")

    def test_tls_from_the_first_octet_is_greeted_after_the_handshake(self) -> None:
        client = self.server.connect(listener=Listener(isSecure=True))
        self.assertEqual(client.heard(), b"")
        client.protocol.handshakeCompleted()
        self.assertEqual(codesOf(client.heard()), [220])
        self.assertTrue(client.protocol.session.isSecure)

    def test_tls_from_the_first_octet_does_not_lose_its_lock_with_rset_or_ehlo(self) -> None:
        client = self.server.connect(listener=Listener(isSecure=True))
        client.protocol.handshakeCompleted()
        client.say("EHLO c", "RSET")
        self.assertTrue(client.protocol.session.isSecure)
        self.assertEqual(client.codes("STARTTLS"), [503])

    def test_a_proxied_client_is_greeted_once_it_is_known(self) -> None:
        client = self.server.connect(listener=Listener(isProxied=True))
        self.assertEqual(client.heard(), b"")
        client.protocol.proxied()
        self.assertEqual(codesOf(client.heard()), [220])
        secure = self.server.connect(listener=Listener(isProxied=True, isSecure=True))
        secure.protocol.proxied()
        self.assertEqual(secure.heard(), b"")


class TestShutdown(SynchronousTestCase):
    STOPPING = b"421 4.3.2 mx.example.org the server is shutting down, try again later\r\n"

    def test_idle_sessions_get_421_and_it_is_over_when_all_have_gone(self) -> None:
        server = Server()
        clients = [server.greeted(), server.greeted(*ENVELOPE)]
        over = server.factory.shutdown()
        for client in clients:
            self.assertEqual(client.heard(), self.STOPPING)
            self.assertNoResult(over)
            client.leave()
        self.successResultOf(over)
        self.assertEqual(server.clock.getDelayedCalls(), [])

    def test_with_nobody_there_it_is_over_at_once(self) -> None:
        server = Server()
        self.successResultOf(server.factory.shutdown())
        self.assertEqual(server.connect().heard(), self.STOPPING)

    def test_a_message_whose_end_has_come_gets_its_true_answer_first(self) -> None:
        server = Server(store=HeldStore())
        client = server.greeted(*ENVELOPE, "DATA", *MESSAGE)
        server.factory.shutdown()
        self.assertEqual(client.heard(), b"")
        server.store.commit()
        said = client.heard()
        self.assertEqual(codesOf(said), [250, 421])
        self.assertTrue(said.endswith(self.STOPPING))
        self.assertEqual(len(server.store.stored.messages), 1)

    def test_a_pending_421_is_not_said_twice(self) -> None:
        server = Server()
        client = server.greeted("MAIL FROM:<>")
        server.directory.isSlow = True
        client.say("RCPT TO:<down@example.org>")
        server.factory.shutdown()
        server.directory.answer()
        self.assertEqual(codesOf(client.heard()), [421])

    def test_data_half_way_is_421_and_not_stored(self) -> None:
        server = Server()
        client = server.greeted(*ENVELOPE, "DATA", "half")
        server.factory.shutdown()
        self.assertEqual(client.heard(), self.STOPPING)
        client.say(".")
        self.assertEqual(server.store.contents, [])

    def test_who_comes_meanwhile_is_refused(self) -> None:
        server = Server()
        server.greeted()
        server.factory.shutdown()
        late = server.connect()
        self.assertEqual(late.heard(), self.STOPPING)
        self.assertFalse(late.isOpen)

    def test_who_does_not_go_is_cut_after_a_moment(self) -> None:
        server = Server()
        client = server.greeted()
        server.factory.shutdown()
        server.clock.advance(6)
        self.assertEqual(client.wire.ending, "aborted")

    def test_between_two_turns_it_is_421(self) -> None:
        client = Server().greeted()
        client.protocol.dataReceived(b"NOOP\r\n" * 150)
        client.heard()
        client.protocol.factory.shutdown()
        client.clock.advance(0)
        self.assertEqual(client.heard(), self.STOPPING)


class TestErrors(SynchronousTestCase):
    def test_a_thousand_refused_recipients_and_no_more(self) -> None:
        client = Server().greeted("MAIL FROM:<>")
        said = client.say(*["RCPT TO:<nobody@example.org>"] * 1001)
        client.clock.pump([0] * 12)
        self.assertEqual(codesOf(said + client.heard()), [550] * 1000 + [421])

    def test_a_451_or_a_refused_sender_is_no_error_of_the_client(self) -> None:
        client = Server().greeted("MAIL FROM:<>")
        client.say(*["RCPT TO:<loop@example.org>"] * 30, "RSET")
        client.say(*["MAIL FROM:<é@example.net>"] * 30, *["MAIL FROM:<> SIZE=99999999999"] * 30)
        client.clock.pump([0] * 3)
        self.assertEqual(client.codes("NOOP"), [250])

    def test_vrfy_guesses_do_not_end_the_session(self) -> None:
        client = Server().greeted()
        self.assertEqual(set(client.codes(*["VRFY nobody"] * 50)), {550})


class TestBudget(SynchronousTestCase):
    def test_out_of_room_while_it_comes_is_452_at_the_end(self) -> None:
        from mailsrv.server.spool import SpoolBudget

        server = Server(budget=SpoolBudget(memory=100, disk=100))
        client = server.greeted(*ENVELOPE, "DATA")
        self.assertEqual(client.codes("x" * 200, "y", ".", "NOOP"), [452, 250])
        self.assertEqual(client.codes(*ENVELOPE, "DATA", "x", "."), [250, 250, 354, 250])
        self.assertEqual(server.store.contents, [b"x\r\n"])

    def test_a_fault_of_the_content_goes_before(self) -> None:
        from mailsrv.server.spool import SpoolBudget

        server = Server(budget=SpoolBudget(memory=100, disk=100))
        client = server.greeted(*ENVELOPE, "DATA")
        client.send(b"x" * 200 + b"\r\n")
        self.assertEqual(client.codes("a\nb", "."), [550])


def idle(server: Server) -> Client:
    return server.greeted("NOOP", "MAIL FROM:<sender@example.net>", "RSET")


def test_an_idle_connection_costs_little_memory() -> None:
    server = Server()
    kept = [idle(server) for _ in range(10)]
    gc.collect()
    tracemalloc.start()
    try:
        protocols = []
        for _ in range(200):
            client = idle(server)
            client.wire.io = None  # what the test keeps of the replies is not the server's
            protocols.append(client)
        gc.collect()
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    each = held / 200
    assert each < 8000, f"{each:.0f} octets, the test's own transport included"
    assert len(kept) + len(protocols) == server.factory.connections


@pytest.mark.parametrize("length", [1, 7, 64, 1000])
def test_a_line_that_comes_octet_by_octet_is_one_line(length: int) -> None:
    client = Server().greeted()
    for octet in b"HELP " + b"x" * length:
        assert client.send(bytes([octet])) == b""
    assert codesOf(client.say("")) == [214]
    assert sys.getsizeof(client.protocol._buffer) < 100
