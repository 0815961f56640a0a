"""The promise: 250 after the COMMIT, not before, and nobody else waits for it."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.extensions.extension import ServerExtension
from mailsrv.extensions.standard import standardExtensions
from mailsrv.policies.policy import Policy
from mailsrv.server.site import Listener
from mailsrv.smtp import reply as r
from mailsrv.smtp.errors import CannotStore, OutOfRoom, Unavailable
from mailsrv.smtp.message import Content, Summary
from mailsrv.testing import HeldStore
from smtpconversation import ENVELOPE, MESSAGE, Client, Server, StaticDirectory, codesOf


def held(*more: str) -> tuple[Server, Client]:
    """A server whose only client has sent a whole message, and `more` behind it."""
    server = Server(store=HeldStore())
    client = server.greeted(*ENVELOPE)
    assert client.say("DATA").startswith(b"354")
    assert client.say(*MESSAGE, *more) == b""
    return server, client


class TestCommit(SynchronousTestCase):
    def test_250_comes_after_the_commit_and_nobody_else_waits(self) -> None:
        server, client = held()
        self.assertEqual(len(server.store.waiting), 1)
        other = server.greeted()
        self.assertEqual(other.codes("NOOP", *ENVELOPE), [250, 250, 250])
        self.assertEqual(other.codes("DATA", "Subject: other", "", "."), [354])
        server.clock.advance(30)
        self.assertEqual(client.heard(), b"")

        server.store.commit()

        (message,) = server.store.stored.messages.values()
        self.assertEqual(message.content.octets, b"Subject: hello\r\n\r\nA line of text.\r\n")
        server.clock.advance(0)
        said = client.wire.value().decode().splitlines()[-1]
        self.assertEqual(said, f"250 2.0.0 OK id={message.id}")
        self.assertEqual(other.heard(), b"", "the other's message is not committed yet")

        server.store.commit()

        self.assertEqual(codesOf(other.heard()), [250])
        self.assertEqual(len(server.store.stored.messages), 2)

    def test_another_message_may_be_committed_before(self) -> None:
        server, client = held()
        other = server.greeted(*ENVELOPE)
        other.say("DATA", *MESSAGE)
        server.store.waiting.reverse()
        server.store._answers.reverse()
        server.store.commit()
        self.assertEqual(codesOf(other.heard()), [250])
        self.assertEqual(client.heard(), b"")

    def test_commands_behind_the_message_wait_for_the_250_and_keep_their_order(self) -> None:
        server, client = held("NOOP", "RSET now", "MAIL FROM:<>")
        self.assertEqual(client.say("VRFY alice"), b"")
        self.assertEqual(client.say("QUIT"), b"")
        server.store.commit()
        self.assertEqual(codesOf(client.heard()), [250, 250, 500, 250, 250, 221])

    def test_what_a_waiting_client_sends_is_not_read_without_end(self) -> None:
        server, client = held()
        client.send(b"N")
        self.assertEqual(client.wire.producerState, "paused")
        server.store.commit()
        self.assertEqual(client.wire.producerState, "producing")
        self.assertEqual(codesOf(client.say("OOP")), [250, 250])

    def test_a_client_that_waits_quietly_is_still_read_so_that_its_going_is_noticed(self) -> None:
        _, client = held()
        self.assertEqual(client.wire.producerState, "producing")

    def test_the_same_transaction_does_not_go_on_after_the_commit(self) -> None:
        server, client = held("DATA")
        server.store.commit()
        self.assertEqual(codesOf(client.heard()), [250, 503])

    def test_a_pending_answer_does_not_time_out_the_client(self) -> None:
        server, client = held()
        server.clock.pump([1.0] * 3000)
        self.assertEqual(client.heard(), b"")
        server.store.commit()
        self.assertEqual(codesOf(client.heard()), [250])
        server.clock.advance(599)
        self.assertTrue(client.isOpen, "idle counts from the answer on")


class TestWithdrawn(SynchronousTestCase):
    def test_a_message_whose_client_has_gone_is_withdrawn(self) -> None:
        server, client = held()
        client.leave(cleanly=False)
        self.assertEqual(server.store.waiting, [])
        self.assertEqual(server.factory.connections, 0)
        self.assertEqual(server.factory.site.budget.memory.held, 0)
        self.assertEqual(server.observer.named("stored"), [])

    def test_nothing_behind_it_is_carried_out(self) -> None:
        server, client = held("VRFY alice", "MAIL FROM:<>")
        client.leave()
        self.assertEqual(client.heard(), b"")
        self.assertEqual(server.observer.named("closed")[0][0], "192.0.2.7")

    def test_a_recipient_whose_client_has_gone_is_not_asked_for_any_more(self) -> None:
        server = Server()
        client = server.greeted("MAIL FROM:<>")
        client.say("RCPT TO:<slow@example.org>", "VRFY alice")
        client.leave()
        self.assertEqual(server.directory.withdrawn, ["slow@example.org"])


class TestFailed(SynchronousTestCase):
    def fail(self, fault: Exception) -> tuple[Server, Client, bytes]:
        server, client = held("NOOP")
        server.store.fail(fault)
        return server, client, client.heard()

    def test_unavailable_is_421_and_closed(self) -> None:
        _, client, said = self.fail(Unavailable("10.0.0.1 refused, password secret"))
        self.assertTrue(said.startswith(b"421 4.3.0 mx.example.org "))
        self.assertEqual(codesOf(said), [421])
        self.assertNotIn(b"secret", said)
        self.assertEqual(client.wire.ending, "half")

    def test_out_of_room_is_452_and_the_session_goes_on(self) -> None:
        _, client, said = self.fail(OutOfRoom("secret"))
        self.assertTrue(said.startswith(b"452 4.3.1 "))
        self.assertNotIn(b"secret", said)
        self.assertEqual(codesOf(said), [452, 250])
        self.assertEqual(client.codes("RCPT TO:<alice@example.org>"), [503])

    def test_what_cannot_be_stored_is_451(self) -> None:
        _, _, said = self.fail(CannotStore("secret"))
        self.assertTrue(said.startswith(b"451 4.3.0 "))
        self.assertNotIn(b"secret", said)
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_any_other_fault_is_451_and_logged_once(self) -> None:
        _, _, said = self.fail(ZeroDivisionError("secret"))
        self.assertTrue(said.startswith(b"451 4.3.0 "))
        self.assertNotIn(b"secret", said)
        self.assertEqual(codesOf(said), [451, 250])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_store_that_raises_is_451_and_logged_once(self) -> None:
        server = Server(store=Raises())
        client = server.greeted(*ENVELOPE, "DATA")
        self.assertEqual(client.codes(*MESSAGE, "NOOP"), [451, 250])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_fault_of_the_directory_is_451_and_logged_once(self) -> None:
        for isSlow in (False, True):
            server = Server()
            client = server.greeted("MAIL FROM:<>")
            server.directory.isSlow = isSlow
            said = client.say("RCPT TO:<broken@example.org>", "NOOP")
            if isSlow:
                server.directory.answer()
                said = client.heard()
            self.assertEqual(codesOf(said), [451, 250])
            self.assertNotIn(b"secret", said)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_directory_that_is_down_is_421_and_closed(self) -> None:
        for command in ("RCPT TO:<down@example.org>", "VRFY down", "EXPN down"):
            server = Server()
            client = server.greeted("MAIL FROM:<>")
            server.directory.isSlow = True
            self.assertEqual(client.say(command, "NOOP"), b"")
            server.directory.answer()
            self.assertTrue(client.heard().startswith(b"421 4.3.0 mx.example.org "))
            self.assertFalse(client.isOpen)


class Raises:
    def store(self, message: Any) -> Deferred[str]:
        raise ZeroDivisionError("secret")


class TestObserved(SynchronousTestCase):
    def test_a_stored_message_is_heard_of_with_its_seconds_after_the_commit(self) -> None:
        server, _ = held()
        server.clock.advance(2.5)
        self.assertEqual(server.observer.named("stored"), [])
        server.store.commit()
        (message,) = server.store.stored.messages.values()
        self.assertEqual(server.observer.named("stored"), [(message.id, 2.5)])

    def test_refusals_are_heard_of_with_verb_and_argument(self) -> None:
        server = Server()
        client = server.greeted("FOO bar", "RCPT TO:<x@y.z>")
        client.send(b"NOOP\n")
        self.assertEqual(
            server.observer.named("refused"),
            [("FOO", b"bar", 500), ("RCPT", b"TO:<x@y.z>", 503), ("", b"NOOP", 500)],
        )

    def test_a_refused_content_is_heard_of_under_its_command(self) -> None:
        server, _ = held()
        server.store.fail(OutOfRoom())
        self.assertEqual(server.observer.named("refused"), [("DATA", b"", 452)])

    def test_openings_and_closings_come_in_pairs(self) -> None:
        server = Server(maxConnections=1)
        clients = [server.connect(), server.connect()]
        for client in clients:
            client.leave()
        self.assertEqual(len(server.observer.named("opened")), 2)
        self.assertEqual(len(server.observer.named("closed")), 2)

    def test_who_goes_before_it_is_known_who_it_is_was_never_there(self) -> None:
        server = Server()
        server.connect(listener=Listener(isProxied=True)).leave()
        self.assertEqual(server.observer.heard, [])


class Slow(Policy):
    """Answers when the test says, in the moment it is made for."""

    def __init__(self, moment: str) -> None:
        self.answers: list[Deferred[Any]] = []
        setattr(self, moment, self._wait)

    def _wait(self, *given: Any) -> Deferred[Any]:
        self.answers.append(Deferred())
        return self.answers[-1]


class TestPolicies(SynchronousTestCase):
    """The order everywhere: sequence, grammar, extensions, policies, directory, effect."""

    def test_each_moment_may_take_its_time_and_may_refuse(self) -> None:
        lines = {
            "atMail": ENVELOPE[:1],
            "atRcpt": ENVELOPE,
            "atContent": (*ENVELOPE, "DATA", *MESSAGE),
        }
        for moment, commands in lines.items():
            policy = Slow(moment)
            server = Server(policies=[policy])
            client = server.greeted(*commands, "NOOP")
            client.clock.advance(1000)
            self.assertEqual(client.heard(), b"", moment)
            policy.answers[0].callback(r.RELAY_DENIED)
            self.assertEqual(codesOf(client.heard()), [550, 250], moment)
            client.say("RSET")
            client.say(*commands)
            policy.answers[1].callback(None)
            self.assertIn(codesOf(client.heard()), ([250], [250, 250]), moment)

    def test_the_greeting_waits_for_the_policy_and_so_does_an_early_talker(self) -> None:
        policy = Slow("atConnect")
        client = Server(policies=[policy]).connect()
        self.assertEqual(client.say("NOOP", "MAIL FROM:<>"), b"")
        policy.answers[0].callback(None)
        self.assertEqual(codesOf(client.heard()), [220, 250, 503])

    def test_a_refusal_takes_the_place_of_the_greeting_and_closes(self) -> None:
        policy = Slow("atConnect")
        client = Server(policies=[policy]).connect()
        client.say("NOOP")
        policy.answers[0].callback(r.reply(554, "5.7.1", "no service for you"))
        self.assertEqual(client.heard(), b"421 4.7.1 mx.example.org no service for you\r\n")
        self.assertFalse(client.isOpen)

    def test_a_policy_that_breaks_at_connect_is_421_never_a_silent_close(self) -> None:
        for fault in (ZeroDivisionError("secret"), Unavailable("secret")):
            policy = Slow("atConnect")
            client = Server(policies=[policy]).connect()
            policy.answers[0].errback(fault)
            self.assertTrue(client.heard().startswith(b"421 4.3.0 mx.example.org "), fault)
            self.assertFalse(client.isOpen)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_policy_that_raises_at_connect_is_421_too(self) -> None:
        class Broken(Policy):
            def atConnect(self, session: Any) -> Any:
                raise ZeroDivisionError("secret")

        client = Server(policies=[Broken()]).connect()
        self.assertTrue(client.heard().startswith(b"421 4.3.0 mx.example.org "))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_a_policy_that_breaks_later_is_451_and_nothing_is_kept(self) -> None:
        policy = Slow("atContent")
        server = Server(policies=[policy])
        client = server.greeted(*ENVELOPE, "DATA", *MESSAGE)
        policy.answers[0].errback(ZeroDivisionError("secret"))
        self.assertEqual(codesOf(client.heard()), [451])
        self.assertEqual(server.store.contents, [])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(server.factory.site.budget.memory.held, 0)

    def test_a_policy_reads_the_content_and_the_store_still_gets_all_of_it(self) -> None:
        class Reader(Policy):
            def atContent(self, transaction: Any, content: Content) -> Any:
                self.read = (content.head(7), transaction.size, str(transaction.reversePath))

        policy = Reader()
        server = Server(policies=[policy])
        server.greeted(*ENVELOPE, "DATA", *MESSAGE)
        self.assertEqual(policy.read, (b"Subject", 35, "sender@example.net"))
        self.assertEqual(server.store.contents, [b"Subject: hello\r\n\r\nA line of text.\r\n"])

    def test_the_first_of_several_that_refuses_has_the_word(self) -> None:
        class Refuses(Policy):
            asked = 0

            def __init__(self, answer: Any) -> None:
                self.answer = answer

            def atMail(self, transaction: Any) -> Any:
                self.asked += 1
                return self.answer

        slow = Slow("atMail")
        second, third = Refuses(r.CANNOT_STORE), Refuses(r.RELAY_DENIED)
        client = Server(policies=[slow, second, third]).greeted("MAIL FROM:<>")
        slow.answers[0].callback(None)
        self.assertEqual(codesOf(client.heard()), [451])
        self.assertEqual((second.asked, third.asked), (1, 0))

    def test_extensions_are_asked_before_policies_and_policies_before_the_directory(self) -> None:
        asked: list[str] = []

        class Extension(ServerExtension):
            keyword = "XASK"
            mailParams = rcptParams = frozenset({"XASK", "XTOO"})

            def atMail(self, transaction: Any, params: Any) -> Any:
                asked.append(f"extension {dict(params)}")

            def atRcpt(self, transaction: Any, forwardPath: Any, params: Any) -> Any:
                asked.append(f"extension {dict(params)}")

        class Asked(Policy):
            def atMail(self, transaction: Any) -> Any:
                asked.append("policy")

            def atRcpt(self, transaction: Any, forwardPath: Any) -> Any:
                asked.append("policy")

        class Directory(StaticDirectory):
            def resolve(self, forwardPath: Any) -> Any:
                asked.append("directory")
                return super().resolve(forwardPath)

        server = Server(
            directory=Directory(),
            policies=[Asked()],
            extensions=[*standardExtensions(), Extension()],
        )
        client = server.greeted()
        client.say("MAIL FROM:<> xask=1 SIZE=1 XTOO", "RCPT TO:<alice@example.org> XASK=2")
        self.assertEqual(
            asked,
            [
                "extension {'XASK': '1', 'XTOO': None}",
                "policy",
                "extension {'XASK': '2'}",
                "policy",
                "directory",
            ],
        )
        client.say("DATA", ".")
        (message,) = server.store.messages
        self.assertEqual(message.parameters, "XASK=1 SIZE=1 XTOO")
        self.assertEqual(message.recipients[0].parameters, "XASK=2")


class TestExtracted(SynchronousTestCase):
    def test_what_is_extracted_goes_with_the_message(self) -> None:
        server = Server()
        server.greeted(*ENVELOPE, "DATA", *MESSAGE)
        self.assertEqual(server.store.messages[0].summary.subject, "hello")

    def test_an_extraction_elsewhere_is_waited_for(self) -> None:
        waiting: list[Deferred[Summary]] = []

        def extract(content: Content) -> Deferred[Summary]:
            waiting.append(Deferred())
            return waiting[-1]

        server = Server(extract=extract)
        client = server.greeted(*ENVELOPE, "DATA", *MESSAGE)
        self.assertEqual(client.heard(), b"")
        waiting[0].callback(Summary(subject="elsewhere"))
        self.assertEqual(codesOf(client.heard()), [250])
        self.assertEqual(server.store.messages[0].summary.subject, "elsewhere")

    def test_a_client_that_goes_meanwhile_leaves_nothing(self) -> None:
        server = Server(extract=lambda content: Deferred())
        client = server.greeted(*ENVELOPE, "DATA", *MESSAGE)
        client.leave()
        self.assertEqual(server.store.contents, [])
        self.assertEqual(server.factory.site.budget.memory.held, 0)

    def test_no_fault_of_extraction_decides_whether_mail_is_kept(self) -> None:
        def extract(content: Content) -> Summary:
            raise RecursionError("on a strange message")

        server = Server(extract=extract)
        client = server.greeted(*ENVELOPE, "DATA")
        self.assertEqual(client.codes(*MESSAGE), [250])
        self.assertEqual(server.store.messages[0].summary, Summary())
        self.assertEqual(len(self.flushLoggedErrors(RecursionError)), 1)


@pytest.mark.parametrize("octets", [0, 1, 100_000])
def test_the_store_gets_exactly_the_octets(octets: int) -> None:
    content = (b"x" * 77 + b"\n\r.\r" * 3 + b"\xff") * (octets // 80) + b"\r\n"
    content = content.replace(b"\n\r", b"\r\n").replace(b".\r", b".")
    server = Server(limits=None)
    client = server.greeted(*ENVELOPE)
    client.send(b"BDAT %d LAST\r\n" % len(content) + content)
    assert server.store.contents == [content]
