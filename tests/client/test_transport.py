"""A connection: greeting, EHLO, HELO, QUIT, and how it ends."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock

from clientconversation import FULL, STUFFED, ClientConversation, failed
from mailsrv.client.timeouts import Timeouts
from mailsrv.client.transport import EsmtpTransport
from mailsrv.client.writer import EsmtpCommandWriter
from mailsrv.extensions.extension import ClientExtension
from mailsrv.interfaces import (
    CommandSentException,
    IClientExtension,
    IEsmtpCommandWriter,
    IOctetBuffer,
    UnexpectedReply,
)
from mailsrv.smtp import local
from mailsrv.smtp.command import Command
from mailsrv.smtp.reply import reply


def test_nothing_is_said_before_the_greeting_is_whole():
    it = ClientConversation()
    connected = it.client.connect()
    it.hear(b"")
    it.say(b"220-mx.example\r\n220 ES")
    it.hear(b"")
    it.say(b"MTP\r\n")
    it.hear(b"EHLO me.example\r\n")
    it.say(FULL)
    assert connected.called
    assert it.client.isConnected
    assert it.client.greeting == reply(220, "", "mx.example", "ESMTP")
    assert it.client.offered["SIZE"] == "100000"


@pytest.mark.parametrize("refusal", [b"500 what?\r\n", b"502 5.5.1 no\r\n", b"550 no\r\n"])
def test_helo_where_ehlo_is_answered_5yz(refusal):
    it = ClientConversation()
    connected = it.connect(refusal)
    it.play((b"HELO me.example\r\n", b"250 mx\r\n"))
    assert connected.called
    assert it.client.offered == {}


@pytest.mark.parametrize(
    ("greeting", "said"),
    [
        (b"554 5.7.1 not you\r\n", reply(554, "5.7.1", "not you")),
        (b"450 later\r\n", reply(450, "", "later")),
        (b"250 odd\r\n", local.outOfPlace(reply(250, "", "odd"))),
    ],
)
def test_a_greeting_that_refuses_is_what_connect_fails_with(greeting, said):
    it = ClientConversation()
    connected = it.client.connect()
    it.say(greeting)
    assert failed(connected) == said
    it.hear(b"QUIT\r\n")
    it.say(b"221 bye\r\n")
    assert it.wire.ending == "closed"


def test_421_in_place_of_the_greeting_ends_it_without_another_word():
    it = ClientConversation()
    connected = it.client.connect()
    it.say(b"421 4.7.0 mx too busy\r\n")
    assert failed(connected) == reply(421, "4.7.0", "mx too busy")
    it.hear(b"")
    assert it.wire.ending == "aborted"
    assert not it.client.isConnected


@pytest.mark.parametrize("answers", [[b"451 no\r\n"], [b"500 no\r\n", b"550 no\r\n"]])
def test_neither_ehlo_nor_helo(answers):
    it = ClientConversation()
    connected = it.client.connect()
    it.say(b"220 mx\r\n")
    for answer in answers:
        it.say(answer)
    assert failed(connected).text == "no"


def test_no_answer_from_the_host():
    class Refusing:
        def connect(self, factory):
            return fail(ConnectionRefusedError())

    client = EsmtpTransport(Refusing(), Clock(), helo="me.example")
    assert failed(client.connect()) == local.CANNOT_CONNECT
    assert not client.isConnected
    assert client.quit().called


def test_a_host_that_does_not_answer_is_given_up_in_time():
    class Silent:
        def connect(self, factory):
            return Deferred()

    clock = Clock()
    client = EsmtpTransport(Silent(), clock, helo="me.example", timeouts=Timeouts(connect=7))
    connected = client.connect()
    clock.advance(6.9)
    assert not connected.called
    clock.advance(0.2)
    assert failed(connected) == local.CANNOT_CONNECT


@pytest.mark.parametrize("helo", ["", "a b", "a\r\nRSET", "-x", "[1.2.3]"])
def test_a_name_that_is_none_is_not_said(helo):
    with pytest.raises(ValueError, match="not a domain"):
        EsmtpTransport(None, Clock(), helo=helo)


def test_what_ehlo_offers_is_read_whatever_its_case_and_what_is_no_keyword_is_passed_over():
    it = ClientConversation()
    it.connect(b"250-mx\r\n250-size  10 \r\n250-AUTH=PLAIN\r\n250-\r\n250 x-y 1 2\r\n")
    assert it.client.offered == {"SIZE": "10", "X-Y": "1 2"}


@pytest.mark.parametrize("waiting", ["greeting", "EHLO"])
def test_a_drop_counts_as_451(waiting):
    it = ClientConversation()
    connected = it.client.connect()
    if waiting == "EHLO":
        it.say(b"220 mx\r\n")
    it.drop()
    assert failed(connected) == local.DROPPED
    assert (local.DROPPED.code, it.client.isConnected) == (451, False)


@pytest.mark.parametrize(
    "octets",
    [b"HTTP/1.1 400\r\n", b"220-" + b"x" * 3000, b"220-x\r\n" * 300, b"220-x\r\n221 y\r\n"],
)
def test_what_is_no_reply_ends_it(octets):
    it = ClientConversation()
    connected = it.client.connect()
    it.say(octets)
    assert failed(connected) == local.MALFORMED_REPLY
    assert it.wire.ending == "aborted"
    it.hear(b"")


def test_a_reply_nobody_asked_for_ends_it():
    it = ClientConversation()
    it.connect()
    it.say(b"250 OK\r\n250 OK\r\n")
    assert it.wire.ending == "aborted"
    assert it.send().replies == [local.UNASKED_REPLY]


def test_421_while_nothing_is_asked_is_the_answer_to_what_comes_next():
    it = ClientConversation()
    it.connect()
    it.say(b"421 4.3.2 mx shutting down\r\n")
    assert it.send().replies == [reply(421, "4.3.2", "mx shutting down")]
    assert failed(it.client.executeCommand(Command("NOOP"), (250,))).code == 421


def test_a_reply_that_came_before_its_command_was_sent_is_not_believed():
    it = ClientConversation()
    connected = it.client.connect()
    it.say(b"220 mx\r\n250-mx\r\n250 SIZE\r\n")
    assert failed(connected) == local.UNASKED_REPLY
    it.hear(b"")


def test_quit_waits_for_221_and_for_the_connection_to_close():
    it = ClientConversation()
    it.connect()
    quitting = it.client.quit()
    it.hear(b"QUIT\r\n")
    assert not quitting.called
    it.say(b"221 2.0.0 mx bye\r\n")
    assert quitting.called
    assert it.wire.ending == "closed"
    assert not it.client.isConnected
    assert it.client.quit().called
    assert it.clock.getDelayedCalls() == []


def test_quit_waits_for_the_messages_before_it():
    it = ClientConversation()
    it.connect()
    sending = it.send()
    it.wire.clear()
    quitting = it.client.quit()
    it.say(b"250 ok\r\n250 ok\r\n354 go\r\n")
    it.hear(STUFFED)
    it.say(b"250 ok\r\n")
    assert sending.result.isDelivered
    it.play((b"QUIT\r\n", b"221 bye\r\n"))
    assert quitting.called


def test_a_message_cancelled_while_it_waits_is_not_sent():
    it = ClientConversation()
    it.connect()
    first, second = it.send(), it.send(["c@example.org"])
    it.wire.clear()
    second.sending.cancel()
    assert second.replies == [local.ABORTED]
    it.say(b"250 ok\r\n550 no\r\n503 no\r\n")
    it.hear(b"")
    assert first.replies[0].code == 550
    assert it.client.isConnected


def test_a_message_cancelled_under_way_ends_the_connection():
    it = ClientConversation()
    it.connect()
    sending = it.send()
    sending.sending.cancel()
    assert sending.replies == [local.ABORTED]
    assert it.wire.ending == "aborted"


def test_a_message_cancelled_while_it_is_looked_at_is_not_sent():
    it = ClientConversation()
    it.connect()
    it.hear(b"")
    sending = it.send(content=b"x" * 2_000_000)
    sending.sending.cancel()
    assert sending.replies == [local.ABORTED]
    it.hear(b"")


def test_quit_does_not_wait_for_ever():
    it = ClientConversation(timeouts=Timeouts(quit=5))
    it.connect()
    quitting = it.client.quit()
    it.clock.advance(5.1)
    assert quitting.called
    assert it.wire.ending == "aborted"


def test_a_server_that_does_not_let_go_after_221_is_cut():
    it = ClientConversation(timeouts=Timeouts(quit=5))
    it.wire.loseConnection = lambda: None
    it.connect()
    quitting = it.client.quit()
    it.say(b"221 bye\r\n")
    assert not quitting.called
    it.clock.advance(5.1)
    assert quitting.called
    assert it.wire.ending == "aborted"


def test_abort_answers_what_is_under_way():
    it = ClientConversation()
    it.client.abort()
    it.connect()
    sending = it.send()
    it.client.abort()
    assert sending.replies == [local.ABORTED]
    assert it.clock.getDelayedCalls() == []


def test_before_connect_nothing_can_be_sent():
    it = ClientConversation()
    assert it.send().replies == [local.NOT_CONNECTED]
    assert not it.client.isSecure
    assert not it.client.isVerified
    with pytest.raises(UnexpectedReply):
        it.client.executeCommand(Command("NOOP"))


@pytest.mark.parametrize(
    ("answers", "seconds"),
    [
        ([], 300),
        ([b"220 mx\r\n"], 300),
        ([b"220 mx\r\n", b"250 mx\r\n"], 300),
        ([b"220 mx\r\n", b"250 mx\r\n", b"250 ok\r\n"], 300),
        ([b"220 mx\r\n", b"250 mx\r\n", b"250 ok\r\n", b"250 ok\r\n"], 120),
        ([b"220 mx\r\n", b"250 mx\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n"], 600),
    ],
    ids=["greeting", "EHLO", "MAIL", "RCPT", "DATA", "end"],
)
def test_each_reply_is_awaited_as_long_as_the_rfc_says(answers, seconds):
    it = ClientConversation()
    connected = it.client.connect()
    sending = None
    for number, answer in enumerate(answers):
        it.clock.advance(100)
        it.say(answer)
        if number == 1:
            sending = it.send()
    it.clock.advance(seconds - 0.1)
    assert it.wire.ending == ""
    it.clock.advance(0.2)
    assert it.wire.ending == "aborted"
    said = failed(connected) if sending is None else sending.replies[0]
    assert said == local.NO_REPLY_IN_TIME
    assert it.clock.getDelayedCalls() == []


def test_a_server_that_trickles_a_reply_is_not_waited_for_longer():
    it = ClientConversation()
    connected = it.client.connect()
    for _ in range(30):
        it.say(b"220-x\r\n")
        it.clock.advance(10.1)
    assert failed(connected) == local.NO_REPLY_IN_TIME


# Extensions


class Recording(ClientExtension):
    keyword = "SIZE"

    def __init__(self, answer=None):
        self.turns = []
        self.answer = answer

    def afterEhlo(self, writer, params):
        self.turns.append(params)
        return self.answer


@pytest.mark.parametrize("later", [False, True])
def test_an_extension_can_make_a_connection_useless(later):
    refusal = reply(550, "5.7.0", "not with me")
    extension = Recording(succeed(refusal) if later else refusal)
    it = ClientConversation([extension])
    assert failed(it.connect()) == refusal
    assert extension.turns == ["100000"]
    it.hear(b"QUIT\r\n")
    it.say(b"221 bye\r\n")
    assert it.wire.ending == "closed"


def test_an_extension_is_asked_though_the_server_does_not_offer_it():
    extension = Recording()
    it = ClientConversation([extension])
    connected = it.connect(b"500 no\r\n")
    it.play((b"HELO me.example\r\n", b"250 mx\r\n"))
    assert connected.called
    assert extension.turns == [None]


class Greeting(ClientExtension):
    """Sends each command itself, with a NOOP before it."""

    keyword = "X-POLITE"

    def atCommand(self, writer, command, expectedCodes):
        if command.verb == "NOOP":
            writer.executeCommand(Command("NOOP", b"please"))
            raise CommandSentException(writer.executeCommand(command, expectedCodes))


def test_an_extension_may_send_a_command_itself():
    it = ClientConversation([Greeting()])
    it.connect(b"250-mx\r\n250 X-POLITE\r\n")
    answer = it.client.executeCommand(Command("NOOP"), (250,))
    it.play((b"NOOP please\r\n", b"500 what\r\n"), (b"NOOP\r\n", b"250 ok\r\n"))
    assert answer.result == reply(250, "", "ok")


def test_its_turn_comes_only_where_it_is_offered():
    it = ClientConversation([Greeting()])
    it.connect(b"250 mx\r\n")
    it.client.executeCommand(Command("NOOP"), (250,))
    it.hear(b"NOOP\r\n")


def test_a_reply_that_was_not_expected_fails_the_command():
    it = ClientConversation()
    it.connect()
    answer = it.client.executeCommand(Command("NOOP"), (250,))
    it.say(b"500 5.5.2 no\r\n")
    assert failed(answer) == reply(500, "5.5.2", "no")
    assert str(UnexpectedReply(reply(500, "5.5.2", "no"))) == "500 5.5.2 no"


def test_octets_can_be_written_as_they_are():
    it = ClientConversation()
    it.connect()
    it.client.getBuffer().write(b"\0raw")
    it.hear(b"\0raw")


@pytest.mark.parametrize("argument", [b"a\r\nQUIT", b"a\nb", b"a\rb", b"a\0b"])
def test_a_command_is_one_line(argument):
    it = ClientConversation()
    it.connect()
    it.hear(b"")
    faults = []
    it.client.executeCommand(Command("NOOP", argument)).addErrback(faults.append)
    assert faults[0].check(ValueError)
    it.hear(b"")


def test_a_command_cancelled_ends_the_connection():
    it = ClientConversation()
    it.connect()
    answer = it.client.executeCommand(Command("NOOP"))
    answer.cancel()
    assert answer.result == local.ABORTED
    assert it.wire.ending == "aborted"


def test_without_pipelining_a_command_waits_for_the_reply_before_it():
    it = ClientConversation()
    it.connect(b"250 mx\r\n")
    answers = [it.client.executeCommand(Command("NOOP")) for _ in range(3)]
    it.hear(b"NOOP\r\n")
    it.say(b"250 1\r\n")
    it.hear(b"NOOP\r\n")
    it.drop()
    assert [answer.result.code for answer in answers] == [250, 451, 451]


def test_the_pieces_provide_their_interfaces():
    it = ClientConversation()
    it.connect()
    assert IEsmtpCommandWriter.providedBy(it.client)
    assert IEsmtpCommandWriter.implementedBy(EsmtpCommandWriter)
    assert IOctetBuffer.providedBy(it.client.getBuffer())
    assert IClientExtension.implementedBy(ClientExtension)
