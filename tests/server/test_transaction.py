"""The mail transaction: what it gathers, and the message it becomes."""

from __future__ import annotations

from datetime import UTC, datetime

from ulid import ULID
from zope.interface.verify import verifyObject

from mailsrv.interfaces import ISession, ITransaction, Resolution
from mailsrv.server.spool import Spool, SpoolBudget
from mailsrv.server.transaction import Transaction
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox
from mailsrv.smtp.message import Forward, Recipient, Summary
from smtpconversation import ENVELOPE, MESSAGE, Server

ALICE = Mailbox("alice", "example.org")


def transaction() -> Transaction:
    session = Server().greeted().protocol.session
    return Transaction(session, Mailbox("s", "example.net"), {"SIZE": "5", "SMTPUTF8": None})


def accept(
    one: Transaction, path: Mailbox, *mailboxes: int, forwards: tuple[str, ...] = ()
) -> None:
    one.accept(path, {"NOTIFY": "NEVER"}, Resolution(r.RECIPIENT_OK, mailboxes, forwards))


def close(one: Transaction) -> object:
    budget = SpoolBudget()
    return one.close(
        messageId="1",
        receivedAt=datetime(2026, 1, 1, tzinfo=UTC),
        content=Spool(budget),
        summary=Summary(),
        trace=b"t",
        protocol="ESMTP",
    )


def test_it_and_its_session_are_what_extensions_are_promised() -> None:
    one = transaction()
    verifyObject(ITransaction, one)
    verifyObject(ISession, one.session)


def test_a_recipient_has_a_row_for_each_mailbox_and_one_where_there_is_none() -> None:
    one = transaction()
    accept(one, ALICE, 1, 2)
    accept(one, Mailbox("Postmaster", ""))
    assert one.recipients == [
        Recipient("alice@example.org", 1, "NOTIFY=NEVER"),
        Recipient("alice@example.org", 2, "NOTIFY=NEVER"),
        Recipient("Postmaster", None, "NOTIFY=NEVER"),
    ]


def test_the_same_forward_path_twice_leaves_one_row_but_is_owed_two_replies() -> None:
    one = transaction()
    accept(one, ALICE, 1)
    accept(one, Mailbox("ALICE", "Example.Org"), 1)
    accept(one, Mailbox('"alice"', "example.org"), 1)
    assert [recipient.address for recipient in one.recipients] == ["alice@example.org"]
    assert one.accepted == 3


def test_two_forward_paths_of_one_mailbox_leave_two_rows() -> None:
    one = transaction()
    accept(one, ALICE, 1)
    accept(one, Mailbox("al", "example.org"), 1)
    assert len(one.recipients) == 2


def test_an_address_elsewhere_is_queued_once_whoever_it_comes_from() -> None:
    one = transaction()
    accept(one, ALICE, forwards=("a@else.test", "b@else.test"))
    accept(one, Mailbox("bob", "example.org"), 2, forwards=("a@else.test",))
    message = close(one)
    assert message.forwards == (  # type: ignore[attr-defined]
        Forward("a@else.test", "alice@example.org", "NOTIFY=NEVER"),
        Forward("b@else.test", "alice@example.org", "NOTIFY=NEVER"),
    )


def test_it_becomes_a_message_with_all_that_is_known() -> None:
    server = Server()
    client = server.greeted("MAIL FROM:<@r.test:S@example.net> size=5 BODY=8BITMIME")
    client.say("RCPT TO:<@r.test:team@example.org> notify=Never", "DATA", ".")
    (message,) = server.store.messages
    assert message.sender == "S@example.net"
    assert message.parameters == "SIZE=5 BODY=8BITMIME"
    assert [(each.address, each.userId) for each in message.recipients] == [
        ("team@example.org", 1),
        ("team@example.org", 2),
    ]
    assert message.recipients[0].parameters == "NOTIFY=Never"
    assert message.forwards == (
        Forward("carol@elsewhere.test", "team@example.org", "NOTIFY=Never"),
    )
    assert (message.helo, message.peer, message.protocol) == (
        "client.example.net",
        "192.0.2.7",
        "ESMTP",
    )


def test_a_recipient_who_is_only_queued_has_a_row_without_a_mailbox() -> None:
    server = Server()
    server.greeted("MAIL FROM:<>", "RCPT TO:<away@example.org>", "DATA", ".")
    (message,) = server.store.messages
    assert message.recipients == (Recipient("away@example.org", None),)
    assert message.forwards == (Forward("away@elsewhere.test", "away@example.org"),)


def test_its_size_is_what_has_come_and_nothing_once_it_is_given_back() -> None:
    server = Server()
    client = server.greeted(*ENVELOPE)
    client.send(b"BDAT 5\r\nhello")
    one = client.protocol.session.transaction
    assert one.size == 5
    assert server.factory.site.budget.memory.held == 5
    one.abandon()
    assert one.size == 0
    assert server.factory.site.budget.memory.held == 0


def test_an_id_is_a_ulid_and_each_is_later_than_the_one_before() -> None:
    server = Server()
    client = server.greeted()
    for _ in range(200):
        client.say(*ENVELOPE, "DATA", *MESSAGE)
    ids = [message.id for message in server.store.messages]
    assert len(ids) == 200
    assert ids == [str(ULID.from_str(each)) for each in ids]
    assert ids == sorted(set(ids))
