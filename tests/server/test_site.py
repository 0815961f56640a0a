"""What sessions share; how often a client may be wrong; HELP."""

from __future__ import annotations

from typing import Any

import pytest

from mailsrv.extensions.extension import ServerExtension
from mailsrv.extensions.standard import standardExtensions
from mailsrv.interfaces import Limits
from mailsrv.server.tally import Tally
from mailsrv.smtp.reply import reply
from smtpconversation import Server


def extension(name: str, **declared: Any) -> ServerExtension:
    made = type(name, (ServerExtension,), {"keyword": name, **declared})
    return made()


@pytest.mark.parametrize(
    "declared",
    [
        {"mailParams": frozenset({"SIZE"})},
        {"rcptParams": frozenset({"NOTIFY"})},
        {"verbs": {"BDAT": 2048}},
    ],
)
def test_two_owners_of_one_name_are_an_error_at_the_start_that_names_both(
    declared: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match=r"claim \w+: \w+ and XMINE; leave one of them out"):
        Server(extensions=[*standardExtensions(), extension("XMINE", **declared)])


@pytest.mark.parametrize("verb", ["NOOP", "MAIL", "EHLO", "LHLO", "TURN"])
def test_a_verb_of_the_protocol_itself_has_its_owner_too(verb: str) -> None:
    with pytest.raises(ValueError, match=f"XMINE claims {verb}"):
        Server(extensions=[extension("XMINE", verbs={verb: 2048})])


def test_the_same_name_for_mail_and_for_rcpt_are_two_names() -> None:
    one = extension("XONE", mailParams=frozenset({"X"}))
    two = extension("XTWO", rcptParams=frozenset({"X"}), verbs={"X": 2048})
    site = Server(extensions=[one, two]).factory.site
    assert (site.mailOwners["X"], site.rcptOwners["X"], site.verbOwners["X"]) == (one, two, two)


def test_help_knows_the_commands_of_extensions() -> None:
    client = Server(extensions=[extension("XMINE", verbs={"XMINE": 2048})]).connect()
    client.heard()
    assert b" XMINE\r\n" in client.say("HELP")
    assert client.say("help xmine") == b"214 2.0.0 XMINE: a command of an extension\r\n"


def test_an_extension_says_whether_it_is_offered_and_with_what() -> None:
    class Sometimes(ServerExtension):
        keyword = "XSOME"

        def atEhlo(self, session: Any) -> str | None:
            return None if session.isLoopback else "one two"

    server = Server(extensions=[Sometimes(), extension("XBARE")])
    assert b"250-XSOME one two\r\n250 XBARE\r\n" in server.connect().say("EHLO c")
    assert b"XSOME" not in server.connect("127.0.0.1", "127.0.0.1").say("EHLO c")


def test_a_verb_that_is_declared_and_not_carried_out_is_502() -> None:
    client = Server(extensions=[extension("XMINE", verbs={"XMINE": 2048})]).connect()
    client.heard()
    assert client.say("XMINE").startswith(b"502 5.5.1 ")


class TestTally:
    ERRORS = (500, 501, 502, 503, 504, 535, 555)
    OTHERS = (421, 451, 454, 530, 538, 550, 551, 552, 553, 554)
    RECIPIENTS = (550, 551, 553, 452)

    def tally(self) -> Tally:
        return Tally(Limits(maxErrors=2, maxRefusedRecipients=3))

    @staticmethod
    def count(tally: Tally, verb: str, codes: tuple[int, ...]) -> list[bool]:
        return [tally.isTooMany(verb, reply(code, "", "")) for code in codes]

    def test_one_error_more_than_is_allowed_is_too_many(self) -> None:
        for code in self.ERRORS:
            assert self.count(self.tally(), "X", (code,) * 3) == [False, False, True]

    def test_what_is_no_fault_of_the_client_does_not_count(self) -> None:
        assert not any(self.count(self.tally(), "MAIL", self.OTHERS * 3))

    def test_refused_recipients_count_apart(self) -> None:
        assert self.count(self.tally(), "RCPT", self.RECIPIENTS) == [False, False, False, True]
        assert not any(self.count(self.tally(), "VRFY", self.RECIPIENTS))
        tally = self.tally()
        self.count(tally, "RCPT", self.RECIPIENTS[:3])
        assert self.count(tally, "RCPT", (501, 503)) == [False, False]

    def test_an_accepted_message_forgives_both(self) -> None:
        tally = self.tally()
        self.count(tally, "RCPT", (500, 501, *self.RECIPIENTS[:3]))
        tally.reset()
        assert self.count(tally, "RCPT", (500, 501, *self.RECIPIENTS[:3])) == [False] * 5
