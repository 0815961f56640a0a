"""An IMessageDelivery of the classic kind behind our server."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.mail import smtp
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailsrv.adapters.twistedmail import TwistedMailDelivery, _lines
from mailsrv.extensions.standard import standardExtensions
from mailsrv.interfaces import IDirectory, IMessageStore, IPolicy
from mailsrv.server.factory import SmtpServerFactory
from mailsrv.smtp.message import BytesContent
from smtpconversation import HOST, Wire, addressOf


@implementer(smtp.IMessage)
class ClassicMessage:
    def __init__(self, delivery) -> None:
        self.delivery = delivery
        self.lines: list[bytes] = []
        self.isLost = False
        self.answer: object = succeed(None)
        delivery.messages.append(self)

    def lineReceived(self, line: bytes) -> None:
        self.lines.append(line)
        if line == self.delivery.choke:
            raise smtp.SMTPServerError(554, "I do not like it")

    def eomReceived(self):
        return self.delivery.ends.pop(0) if self.delivery.ends else succeed(None)

    def connectionLost(self) -> None:
        self.isLost = True
        if self.delivery.losesBadly:
            raise RuntimeError("in connectionLost")


@implementer(smtp.IMessageDelivery)
class ClassicDelivery:
    """Knows bob; everything it is asked is noted."""

    def __init__(self) -> None:
        self.messages: list[ClassicMessage] = []
        self.asked: list[object] = []
        self.ends: list[object] = []
        self.choke: bytes | None = None
        self.losesBadly = False
        self.header: bytes | None = b"Received: from classic\n\tby us"
        self.sender: object = None
        self.error: Exception | None = None

    def receivedHeader(self, helo, origin, recipients):
        self.asked.append(("header", helo, str(origin), [str(each) for each in recipients]))
        return self.header

    def validateFrom(self, helo, origin):
        self.asked.append(("from", helo, bytes(origin)))
        if self.sender is not None:
            raise self.sender
        return succeed(origin)

    def validateTo(self, user):
        self.asked.append(("to", bytes(user.dest), user.helo, str(user.orig)))
        if self.error is not None:
            raise self.error
        if user.dest.local.lower() not in (b"bob", b"ann"):
            raise smtp.SMTPBadRcpt(user)
        return lambda: ClassicMessage(self)


class Conversation:
    """A server over a delivery, and one client that has said EHLO."""

    def __init__(self, delivery=None, **options) -> None:
        self.clock = Clock()
        self.program = ClassicDelivery()
        self.adapter = TwistedMailDelivery(delivery or self.program, self.clock, **options)
        self.factory = SmtpServerFactory(
            self.adapter,
            self.adapter,
            self.clock,
            hostname=HOST,
            extensions=standardExtensions(),
            policies=[self.adapter],
        )
        self.wire = Wire(addressOf("192.0.2.1", 25), addressOf("192.0.2.7"))
        self.protocol = self.factory.buildProtocol(None)
        self.protocol.makeConnection(self.wire)
        self.say("EHLO client.example")

    def send(self, octets: bytes) -> str:
        self.wire.clear()
        self.protocol.dataReceived(octets)
        for _ in range(20):
            self.clock.advance(0)
        return self.wire.value().decode()

    def say(self, *lines: str) -> str:
        return self.send("".join(f"{line}\r\n" for line in lines).encode())

    def begin(self, *recipients: str) -> str:
        return self.say("MAIL FROM:<ann@x.org>", *(f"RCPT TO:<{each}>" for each in recipients))

    def deliver(self, content: bytes, *recipients: str) -> str:
        self.begin(*(recipients or ("bob@example.com",)))
        self.say("DATA")
        return self.send(content + b".\r\n")


class TwistedMailTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.talk = Conversation()
        self.program = self.talk.program

    def flushed(self, *errors: type[Exception]) -> None:
        self.assertEqual(len(self.flushLoggedErrors(*errors)), 1)

    def test_it_is_policy_directory_and_store(self) -> None:
        for interface in (IPolicy, IDirectory, IMessageStore):
            verifyObject(interface, self.talk.adapter)

    def test_a_message_comes_as_twisted_mail_gives_it(self) -> None:
        said = self.talk.deliver(b"Subject: a\r\n\r\n..dot\r\n\r\nend\r\n")
        self.assertRegex(said, r"^250 2\.0\.0 OK id=\w{26}\r\n$")
        [message] = self.program.messages
        self.assertEqual(
            message.lines,
            [b"Received: from classic\n\tby us", b"Subject: a", b"", b".dot", b"", b"end"],
        )
        self.assertFalse(message.isLost)
        helo = (b"client.example", b"192.0.2.7")
        self.assertEqual(
            self.program.asked,
            [
                ("from", helo, b"ann@x.org"),
                ("to", b"bob@example.com", helo, "ann@x.org"),
                ("header", helo, "ann@x.org", ["bob@example.com"]),
            ],
        )

    def test_each_recipient_has_a_message_of_its_own_and_the_same_one_only_one(self) -> None:
        self.talk.deliver(b"a: b\r\n", "bob@example.com", "ann@example.com", "BOB@example.com")
        self.assertEqual(len(self.program.messages), 2)

    def test_two_transactions_do_not_mix(self) -> None:
        self.talk.begin("bob@example.com")
        self.talk.say("RSET")
        self.talk.deliver(b"a: b\r\n", "ann@example.com")
        self.talk.deliver(b"c: d\r\n")
        self.assertEqual([each.lines[-1] for each in self.program.messages], [b"a: b", b"c: d"])

    def test_body_without_a_header_is_told_apart_from_the_received_line(self) -> None:
        self.talk.deliver(b"no header\r\nhere: none\r\n")
        self.assertEqual(self.program.messages[0].lines[1:], [b"", b"no header", b"here: none"])

    def test_without_a_received_header_there_is_none(self) -> None:
        self.program.header = None
        self.talk.deliver(b"\r\nx\r\n")
        self.assertEqual(self.program.messages[0].lines, [b"", b"x"])

    def test_refusals_are_the_programs_own(self) -> None:
        self.assertIn("550 5.0.0 Cannot receive", self.talk.begin("eve@example.com"))
        self.talk.say("RSET")
        self.program.error = smtp.SMTPServerError(421, b"go away")
        self.assertIn(f"421 4.0.0 {HOST} go away", self.talk.begin("bob@example.com"))
        self.assertTrue(self.talk.wire.ending)

    def test_a_sender_is_refused_likewise(self) -> None:
        self.program.sender = smtp.SMTPBadSender(b"ann@x.org", 553, "not you")
        self.assertEqual(self.talk.say("MAIL FROM:<ann@x.org>"), "553 5.0.0 not you\r\n")

    def test_any_other_failure_is_ours_and_temporary(self) -> None:
        self.program.sender = RuntimeError("database down")
        self.assertTrue(self.talk.say("MAIL FROM:<ann@x.org>").startswith("451 4.3.0"))
        self.program.sender = smtp.SMTPServerError(250, "nonsense")
        self.assertTrue(self.talk.say("MAIL FROM:<ann@x.org>").startswith("451 4.3.0"))
        self.assertEqual(len(self.flushLoggedErrors()), 2)
        self.program.sender = None
        self.program.error = KeyError("bob")
        self.assertIn("451 4.3.0", self.talk.begin("bob@example.com"))
        self.flushed(KeyError)

    def test_nothing_after_the_data_is_permanent(self) -> None:
        self.program.choke = b"virus: yes"
        self.assertTrue(self.talk.deliver(b"virus: yes\r\n").startswith("451 4.3.0"))
        self.assertTrue(self.program.messages[0].isLost)
        self.flushed(smtp.SMTPServerError)
        self.program.ends = [fail(smtp.SMTPServerError(550, "no")), succeed(None)]
        self.assertTrue(
            self.talk.deliver(b"a: b\r\n", "bob@example.com", "ann@example.com").startswith("451")
        )
        self.flushed(smtp.SMTPServerError)
        self.assertTrue(self.talk.deliver(b"a: b\r\n").startswith("250"))

    def test_a_program_that_loses_badly_does_not_keep_the_others_from_it(self) -> None:
        self.program.choke, self.program.losesBadly = b"a: b", True
        self.talk.deliver(b"a: b\r\n", "bob@example.com", "ann@example.com")
        self.assertEqual([each.isLost for each in self.program.messages], [True, True])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 2)
        self.flushed(smtp.SMTPServerError)

    def test_250_is_said_when_the_program_has_it_and_not_before(self) -> None:
        taken: Deferred[None] = Deferred()
        self.program.ends = [taken]
        self.assertEqual(self.talk.deliver(b"a: b\r\n"), "")
        taken.callback(None)
        self.talk.clock.advance(0)
        self.assertTrue(self.talk.wire.value().startswith(b"250"))

    def test_a_program_that_does_not_answer_in_time_is_421(self) -> None:
        taken: Deferred[None] = Deferred()
        self.program.ends = [taken]
        self.talk.deliver(b"a: b\r\n")
        self.talk.clock.advance(300)
        self.assertTrue(self.talk.wire.value().startswith(b"421 4.3.0"))
        taken.callback(None)  # too late, and no error

    def test_a_client_that_leaves_stops_what_has_not_begun_to_be_taken(self) -> None:
        self.talk.begin("bob@example.com")
        self.talk.say("DATA")
        self.talk.wire.clear()
        self.talk.protocol.dataReceived(b"a: b\r\n.\r\n")
        self.talk.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertTrue(self.program.messages[0].isLost)

    def test_a_client_that_leaves_does_not_stop_what_is_being_taken(self) -> None:
        cancelled: list[object] = []
        self.program.ends = [Deferred(cancelled.append)]
        self.talk.deliver(b"a: b\r\n")
        self.talk.protocol.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(cancelled, [])
        self.assertFalse(self.program.messages[0].isLost)

    def test_what_twisted_mail_cannot_say_is_refused(self) -> None:
        talk = self.talk
        said = talk.send("MAIL FROM:<zoë@x.org> SMTPUTF8\r\n".encode())
        self.assertEqual(said, "553 5.1.3 This address cannot be taken here\r\n")
        talk.say("MAIL FROM:<> SMTPUTF8")
        said = talk.send("RCPT TO:<zoë@x.org>\r\n".encode())
        self.assertEqual(said, "553 5.1.3 This address cannot be taken here\r\n")

    def test_nobody_is_verified(self) -> None:
        self.assertTrue(self.talk.say("VRFY bob").startswith("252"))
        self.assertTrue(self.talk.say("EXPN all").startswith("252"))

    def test_a_factory_of_deliveries_is_asked_at_each_mail(self) -> None:
        made: list[ClassicDelivery] = []

        @implementer(smtp.IMessageDeliveryFactory)
        class Factory:
            def getMessageDelivery(self):
                made.append(ClassicDelivery())
                return made[-1]

        talk = Conversation(Factory())
        talk.deliver(b"a: b\r\n")
        talk.deliver(b"c: d\r\n")
        self.assertEqual([each.messages[0].lines[-1] for each in made], [b"a: b", b"c: d"])


@pytest.mark.parametrize(
    "octets",
    [
        b"", b"x", b"x\r", b"\r\n", b"\r\n\r\n", b"a\r\nb", b"a\rb\nc\r\n\r", b"\r\r\n\n",
        b"y" * 65_535 + b"\r\n" + b"z" * 140_000 + b"\r\n\r",
        (b"line %d\r\n" * 9000) % tuple(range(9000)),
    ],
)  # fmt: skip
def test_lines_are_cut_at_crlf_alone_wherever_the_pieces_end(octets: bytes) -> None:
    expected = octets.split(b"\r\n")
    if not expected[-1]:
        expected.pop()
    assert [line for lines in _lines(BytesContent(octets)) for line in lines] == expected
