"""Log lines: one a message, one a refusal, none to be forged, no password in any."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from twisted.logger import LogEvent, Logger, formatEventAsClassicLogText
from zope.interface.verify import verifyObject

from mailsrv.interfaces import ISessionObserver
from mailsrv.observers import MAX_RECIPIENTS, LogObserver, escaped
from mailsrv.smtp import reply as r
from mailsrv.smtp.message import BytesContent, Forward, Message, Recipient
from mailsrv.smtp.reply import Reply, reply

SESSION: Any = SimpleNamespace(peer="192.0.2.1")


class Log:
    """An observer's events, and the lines they become."""

    def __init__(self, **options: Any) -> None:
        self.events: list[LogEvent] = []
        self.observer = LogObserver(Logger(observer=self.events.append), **options)

    @property
    def line(self) -> str:
        [event] = self.events
        text = formatEventAsClassicLogText(event)
        assert text is not None
        assert text.count("\n") == 1
        return text.rstrip("\n")


def message(**changes: Any) -> Message:
    values: dict[str, Any] = {
        "id": "01J00000000000000000000000",
        "receivedAt": datetime(2026, 1, 1, tzinfo=UTC),
        "sender": "a@example.com",
        "recipients": (Recipient("b@example.org", 1),),
        "content": BytesContent(b"x" * 77),
        "peer": "192.0.2.1",
    }
    return Message(**{**values, **changes})


def stored(**changes: Any) -> Log:
    log = Log()
    log.observer.messageStored(SESSION, message(**changes), 0.01234)
    return log


def refused(verb: str, argument: bytes, answer: Reply = r.NO_SUCH_USER) -> Log:
    log = Log()
    log.observer.commandRefused(SESSION, verb, argument, answer)
    return log


def test_it_observes_sessions() -> None:
    verifyObject(ISessionObserver, LogObserver())


def test_a_message_stored_is_one_line() -> None:
    assert stored().line.endswith(
        "stored id=01J00000000000000000000000 peer=192.0.2.1 from=<a@example.com> "
        "to=<b@example.org> size=77 ms=12.3"
    )


def test_its_fields_are_keys_for_programs() -> None:
    [event] = stored().events
    assert (event["id"], event["peer"]) == ("01J00000000000000000000000", "192.0.2.1")
    assert (event["sender"], event["recipients"]) == ("a@example.com", "<b@example.org>")
    assert (event["size"], event["milliseconds"]) == (77, 12.3)


def test_its_event_is_one_of_the_logger_like_any_other() -> None:
    events: list[LogEvent] = []
    log, before = Logger(namespace="smtpstore", source=stored, observer=events.append), time.time()
    LogObserver(log).messageStored(SESSION, message(), 0.01234)
    log.info("{line}", **{key: events[0][key] for key in events[0] if key[:4] != "log_"})
    first, second = events
    assert list(first) == list(second)
    assert before <= first.pop("log_time") <= second.pop("log_time")
    assert first == second


def test_a_recipient_is_named_once_whatever_mailboxes_it_has() -> None:
    log = stored(
        recipients=(Recipient("g@example.org", 1), Recipient("g@example.org", 2)),
        forwards=(Forward("far@example.net", "h@example.org"),),
    )
    assert " to=<g@example.org>,<h@example.org> size" in log.line


def test_many_recipients_are_counted() -> None:
    some = tuple(Recipient(f"u{number}@example.org") for number in range(MAX_RECIPIENTS + 90))
    line = stored(recipients=some).line
    assert f"<u{MAX_RECIPIENTS - 1}@example.org>,+90 size" in line
    assert f"<u{MAX_RECIPIENTS}@" not in line


def test_the_null_sender_is_empty_brackets() -> None:
    assert " from=<> " in stored(sender="").line


@pytest.mark.parametrize(
    "address",
    [
        '"x> to=<y@z> size=1\\ b"@example.com',
        "a\r\nstored id=1@example.com",
        "a\x1b[31m@example.com",
        "a\u2028b\u202ec@example.com",
        "a\\x20b@example.com",
        "a@" + "b" * 10_000,
    ],
)
def test_no_address_can_forge_a_line_or_a_field(address: str) -> None:
    line = stored(sender=address, recipients=(Recipient(address),)).line
    fields = line.split("] ", 1)[1].split(" ")
    assert [field.partition("=")[0] for field in fields] == (
        ["stored", "id", "peer", "from", "to", "size", "ms"]
    )
    assert line.isprintable()
    assert line.count("<") == line.count(">") == 2
    assert len(line) < 1000


def test_letters_of_all_tongues_are_shown_as_they_are() -> None:
    assert escaped("jürgen@bücher.example") == "jürgen@bücher.example"
    assert escaped("a b") == r"a\u{20}b"


def test_a_refusal_is_one_line_with_its_reason() -> None:
    assert refused("RCPT", b"TO:<bob@example.com>").line.endswith(
        "refused peer=192.0.2.1 verb=RCPT reply='550 5.1.1 No such user here' "
        "argument='TO:<bob@example.com>'"
    )


def test_a_refused_content_has_no_argument() -> None:
    assert refused("DATA", b"", r.TOO_BIG).line.endswith(" argument=-")


def test_a_reply_of_several_lines_is_one_line() -> None:
    assert "reply='550-5.1.1 a / 550 5.1.1 b'" in (
        refused("VRFY", b"x", reply(550, "5.1.1", "a", "b")).line
    )


def test_the_octets_of_an_argument_are_escaped_and_cut() -> None:
    line = refused("MAIL", b"FROM:<\r\n\x1b\xff'>" + b"x" * 10_000).line
    assert r"\r\n\x1b\xff" in line
    assert line.isprintable()
    assert len(line) < 600


@pytest.mark.parametrize(
    ("verb", "argument"),
    [
        ("AUTH", b"PLAIN AHVzZXIAc2VjcmV0"),
        ("AUTH", b"c2VjcmV0"),
        ("", b"c2VjcmV0=="),
        ("HUNTERTWO", b"c2VjcmV0"),
        ("NOOP", b"c2VjcmV0"),
    ],
)
def test_what_may_be_a_password_is_never_logged(verb: str, argument: bytes) -> None:
    log = refused(verb, argument, r.UNKNOWN_COMMAND)
    assert "c2VjcmV0" not in repr(log.events)
    assert "HUNTER" not in repr(log.events)
    assert "verb=" in log.line


def test_connections_have_no_line_unless_asked_for() -> None:
    quiet, loud = Log(), Log(withSessions=True)
    for log in (quiet, loud):
        log.observer.sessionOpened(SESSION)
        log.observer.sessionClosed(SESSION, "timed\nout")
    assert quiet.events == []
    texts = [formatEventAsClassicLogText(event) or "" for event in loud.events]
    assert texts[0].endswith("opened peer=192.0.2.1\n")
    assert texts[1].endswith("closed peer=192.0.2.1 reason=timed\\u{a}out\n")
