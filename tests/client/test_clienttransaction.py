"""Mail transactions: who gets which reply, in groups and one by one, over DATA and BDAT."""

from __future__ import annotations

import time
from io import BytesIO

import pytest
from twisted.internet.task import Clock

from clientconversation import CONTENT, FULL, STUFFED, ClientConversation
from mailsrv.client.envelope import Envelope, newAddress
from mailsrv.extensions.body import BodyClient
from mailsrv.extensions.extension import ClientExtension
from mailsrv.extensions.standard import clientExtensions
from mailsrv.smtp import local
from mailsrv.smtp.message import BytesContent
from mailsrv.smtp.reply import reply

BASIC = b"250 mx.example\r\n"
PIPELINING = b"250-mx.example\r\n250 PIPELINING\r\n"
MAIL = b"MAIL FROM:<a@example.org>\r\n"
RCPT = b"RCPT TO:<b@example.org>\r\n"


def rcpt(name: str) -> bytes:
    return f"RCPT TO:<{name}@example.org>\r\n".encode()


def names(*names: str) -> list[str]:
    return [f"{name}@example.org" for name in names]


def begun(ehlo: bytes = BASIC, **options) -> ClientConversation:
    it = ClientConversation(**options)
    it.connect(ehlo)
    return it


# One by one


def test_a_message_without_any_extension():
    it = begun()
    sending = it.send()
    it.play(
        (MAIL, b"250 ok\r\n"),
        (RCPT, b"250 ok\r\n"),
        (b"DATA\r\n", b"354 go\r\n"),
        (STUFFED, b"250 2.0.0 queued\r\n"),
    )
    assert sending.replies == [reply(250, "2.0.0", "queued")]
    assert sending.result.isDelivered
    assert it.clock.getDelayedCalls() == []


def dialogue(ehlo: bytes) -> list[bytes]:
    """What the server says in a whole conversation of two messages, some of it in lines."""
    return [
        b"220-mx.example\r\n220 ESMTP\r\n",
        ehlo,
        b"250 2.1.0 ok\r\n251-2.1.5 will\r\n251 2.1.5 forward to <c@new.example>\r\n354 go\r\n",
        b"250-2.0.0 queued\r\n250 2.0.0 as 1\r\n",
        b"550 5.1.0 no\r\n503 no\r\n503-no\r\n503 no\r\n",
        b"221 2.0.0 bye\r\n",
    ]


@pytest.mark.parametrize("piece", [0, 1, 2, 3, 7])
def test_a_conversation_however_its_octets_are_cut(piece):
    play(ClientConversation(piece=piece))


def test_a_conversation_cut_at_every_position():
    for cut in range(1, len(b"".join(dialogue(PIPELINING)))):
        play(ClientConversation(cut=cut))


def play(it: ClientConversation) -> None:
    says = iter(dialogue(PIPELINING))
    connected = it.client.connect()
    it.play((b"", next(says)), (b"EHLO me.example\r\n", next(says)))
    assert connected.called
    first = it.send()
    it.play((MAIL + RCPT + b"DATA\r\n", next(says)), (STUFFED, next(says)))
    assert first.replies == [reply(250, "2.0.0", "queued", "as 1")]
    assert first.result.recipients[0].newAddress == "c@new.example"
    second = it.send()
    it.play((MAIL + RCPT + b"DATA\r\n", next(says)))
    assert second.replies == [reply(550, "5.1.0", "no")]
    quitting = it.client.quit()
    it.play((b"QUIT\r\n", next(says)))
    assert quitting.called
    assert it.wire.ending == "closed"


def test_one_by_one_nothing_is_said_in_vain_after_mail_is_refused():
    it = begun()
    sending = it.send(names("b", "c"))
    it.play((MAIL, b"451 4.7.1 later\r\n"), (b"", b""))
    assert sending.replies == [reply(451, "4.7.1", "later")] * 2
    assert it.client.isConnected


def test_one_by_one_nothing_is_said_in_vain_after_every_recipient_is_refused():
    it = begun()
    sending = it.send(names("b", "c"))
    it.play((MAIL, b"250 ok\r\n"), (RCPT, b"550 b\r\n"), (rcpt("c"), b"450 c\r\n"), (b"", b""))
    assert sending.codes == [(550, ""), (450, "")]


def test_a_transaction_left_open_is_reset_before_the_next():
    it = begun()
    it.send()
    it.play((MAIL, b"250 ok\r\n"), (RCPT, b"550 no\r\n"))
    sending = it.send()
    it.play((b"RSET\r\n", b"250 ok\r\n"), (MAIL, b"250 ok\r\n"), (RCPT, b"250 ok\r\n"))
    it.play((b"DATA\r\n", b"354 go\r\n"), (STUFFED, b"250 ok\r\n"))
    assert sending.result.isDelivered
    it.send()
    it.hear(MAIL)


def test_a_reset_that_is_refused_is_the_end_of_the_connection_not_of_the_message():
    it = begun()
    it.send()
    it.play((MAIL, b"550 no\r\n"))
    sending = it.send()
    it.play((b"RSET\r\n", b"500 no reset\r\n"), (b"", b""))
    assert sending.replies == [local.ABORTED]
    assert it.wire.ending == "aborted"


def test_a_message_waits_for_the_one_before_it():
    it = begun(PIPELINING)
    first, second = it.send(), it.send(names("c"))
    it.play((MAIL + RCPT + b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"))
    it.hear(STUFFED)
    it.say(b"250 one\r\n")
    it.play(
        (MAIL + rcpt("c") + b"DATA\r\n", b"250 ok\r\n250 ok\r\n354 go\r\n"),
        (STUFFED, b"250 two\r\n"),
    )
    assert [first.replies[0].text, second.replies[0].text] == ["one", "two"]


# In groups


def test_in_a_group_each_recipient_gets_the_reply_that_is_its_own():
    it = begun(PIPELINING)
    sending = it.send(names("b", "c", "d", "b"))
    it.hear(MAIL + RCPT + rcpt("c") + rcpt("d") + RCPT + b"DATA\r\n")
    it.say(b"250 ok\r\n251 ok\r\n550 5.1.1 c\r\n452 4.5.3 d\r\n250 ok\r\n354 go\r\n")
    it.play((STUFFED, b"250 2.0.0 queued\r\n"))
    assert sending.codes == [(250, "2.0.0"), (550, "5.1.1"), (452, "4.5.3"), (250, "2.0.0")]
    assert [each.isDelivered for each in sending.result.recipients] == [True, False, False, True]
    assert not sending.result.isDelivered


def test_354_though_every_recipient_was_refused_is_followed_by_the_dot_alone():
    it = begun(PIPELINING)
    sending = it.send()
    it.hear(MAIL + RCPT + b"DATA\r\n")
    it.say(b"250 ok\r\n550 5.1.1 no\r\n354 go\r\n")
    it.hear(b".\r\n")
    it.say(b"554 no valid recipients\r\n")
    assert sending.codes == [(550, "5.1.1")]
    it.send()
    it.hear(b"RSET\r\n" + MAIL + RCPT + b"DATA\r\n")


def test_a_server_that_takes_the_empty_message_has_not_taken_ours():
    it = begun(PIPELINING)
    sending = it.send()
    it.say(b"550 5.7.1 no\r\n503 no\r\n354 go\r\n")
    it.say(b"250 thanks\r\n")
    assert sending.codes == [(550, "5.7.1")]


def test_data_refused_is_the_reply_of_those_who_were_accepted():
    it = begun(PIPELINING)
    sending = it.send(names("b", "c"))
    it.say(b"250 ok\r\n250 ok\r\n550 c\r\n451 4.3.0 not now\r\n")
    assert sending.codes == [(451, "4.3.0"), (550, "")]


@pytest.mark.parametrize("refusal", [b"451 4.3.0 no", b"554 5.5.0 too many errors"])
def test_a_reset_goes_in_the_group_and_ends_the_connection_where_it_is_refused(refusal):
    it = begun(PIPELINING)
    it.send()
    it.say(b"550 no\r\n503 no\r\n503 no\r\n")
    it.wire.clear()
    sending = it.send()
    it.hear(b"RSET\r\n" + MAIL + RCPT + b"DATA\r\n")
    it.say(refusal + b"\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    it.hear(b"")
    assert sending.replies == [local.ABORTED]
    assert it.wire.ending == "aborted"


@pytest.mark.parametrize("replies", range(5))
@pytest.mark.parametrize("isPipelined", [True, False])
def test_a_drop_at_any_command_is_451_for_all_who_have_no_answer(replies, isPipelined):
    it = begun(PIPELINING if isPipelined else BASIC)
    sending = it.send(names("b", "c"))
    for answer in [b"250 ok\r\n", b"250 ok\r\n", b"550 c\r\n", b"354 go\r\n"][:replies]:
        it.say(answer)
    it.drop()
    assert sending.replies[0] == local.DROPPED
    assert sending.replies[1] == (reply(550, "", "c") if replies > 2 else local.DROPPED)
    assert it.clock.getDelayedCalls() == []


@pytest.mark.parametrize("replies", range(5))
def test_421_at_any_command_is_the_reply_of_all_who_have_no_answer(replies):
    it = begun(PIPELINING)
    sending = it.send(names("b", "c"))
    for answer in [b"250 ok\r\n", b"250 ok\r\n", b"550 c\r\n", b"354 go\r\n"][:replies]:
        it.say(answer)
    it.say(b"421 4.3.2 mx down\r\n")
    closing = reply(421, "4.3.2", "mx down")
    assert sending.replies == [closing, reply(550, "", "c") if replies > 2 else closing]
    assert it.wire.ending


@pytest.mark.parametrize(
    "answers",
    [
        [b"354 go\r\n"],
        [b"250 ok\r\n", b"354 go\r\n"],
        [b"250 ok\r\n", b"250 ok\r\n", b"250 ok\r\n"],
        [b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"354 go\r\n"],
    ],
)
def test_a_success_that_means_nothing_where_it_is_said_is_no_success(answers):
    it = begun()
    sending = it.send()
    for answer in answers:
        it.say(answer)
    (said,) = sending.replies
    assert said.code == 451
    assert not sending.result.isDelivered


# New addresses


@pytest.mark.parametrize("code", [251, 551])
def test_251_and_551_name_the_new_address(code):
    it = begun(PIPELINING)
    sending = it.send()
    it.say(f"250 ok\r\n{code} 5.1.6 User not local; try <new@else.example>\r\n354 go\r\n".encode())
    it.say(b"250 ok\r\n")
    (result,) = sending.result.recipients
    assert result.newAddress == "new@else.example"
    assert result.isDelivered == (code == 251)


@pytest.mark.parametrize(
    ("said", "address"),
    [
        (reply(251, "", "will forward to <a@b.example>"), "a@b.example"),
        (reply(551, "", "x < y", "try <a@b.example>"), "a@b.example"),
        (reply(551, "", "no address"), None),
        (reply(551, "", "<>"), None),
        (reply(250, "", "<a@b.example>"), None),
        (reply(550, "", "<a@b.example>"), None),
    ],
)
def test_new_address(said, address):
    assert newAddress(said) == address


def test_a_reply_full_of_what_might_be_an_address_takes_no_time():
    began = time.process_time()
    assert newAddress(reply(551, "5.1.6", *["<" * 2000] * 200)) is None
    assert newAddress(reply(251, "2.1.5", *['<"' * 1000] * 200)) is None
    assert time.process_time() - began < 0.5  # 3 s where all of it is looked at


# What is refused on our side


@pytest.mark.parametrize("sender", ["a", "a@b\r\nRSET", "<a@b>", "a@b c", "a@"])
def test_a_sender_that_is_no_address_is_not_sent(sender):
    it = begun()
    it.hear(b"")
    assert it.send(sender=sender).replies == [local.BAD_SENDER]
    it.hear(b"")


def test_a_recipient_that_is_no_address_is_refused_alone():
    it = begun(PIPELINING)
    it.hear(b"")
    sending = it.send(
        ["b@example.org>\r\nRCPT TO:<evil@example.org", "b@example.org", "Postmaster"]
    )
    it.hear(MAIL + RCPT + b"RCPT TO:<Postmaster>\r\nDATA\r\n")
    it.say(b"250 ok\r\n250 ok\r\n250 ok\r\n354 go\r\n")
    it.say(b"250 ok\r\n")
    assert sending.replies[0] == local.BAD_RECIPIENT
    assert sending.codes[1:] == [(250, "")] * 2


def test_where_no_recipient_is_an_address_nothing_is_said():
    it = begun()
    it.hear(b"")
    assert it.send(["x", "y"]).replies == [local.BAD_RECIPIENT] * 2
    it.hear(b"")


def test_the_null_sender():
    it = begun()
    it.send(sender="")
    it.hear(b"MAIL FROM:<>\r\n")


def test_bare_newlines_are_not_sent_where_binarymime_is_not_offered():
    it = begun(b"250-mx\r\n250 CHUNKING\r\n")
    it.hear(b"")
    assert it.send(content=b"a\nb\r\n").replies == [local.HAS_BARE_NEWLINE]
    it.hear(b"")
    assert it.client.isConnected


@pytest.mark.parametrize(
    ("parameters", "fault"),
    [
        ({"RET": "F ULL"}, ValueError),
        ({"RET\r\n": None}, ValueError),
        ({"R": "a\r\nb"}, ValueError),
    ],
)
def test_a_parameter_that_could_not_stand_in_a_command_is_an_error(parameters, fault):
    with pytest.raises(fault):
        Envelope("", ("b@example.org",), b"", parameters)
    with pytest.raises(fault):
        Envelope("", ("b@example.org",), b"", {}, {"b@example.org": parameters})


def test_content_that_is_none_is_an_error():
    with pytest.raises(TypeError):
        Envelope("", ("b@example.org",), "text")


class Refusing(ClientExtension):
    keyword = "X"

    def getMailParams(self, transaction, params):
        return reply(550, "5.0.0", "mail") if transaction.sender == "x@example.org" else {"X": "1"}

    def getRcptParams(self, transaction, forwardPath, params):
        return reply(550, "5.0.0", "rcpt") if forwardPath == "x@example.org" else {"X": "2"}


def test_an_extension_may_refuse_a_message_or_a_recipient():
    it = ClientConversation([Refusing()])
    it.connect(b"250-mx\r\n250 X\r\n")
    it.hear(b"")
    assert it.send(sender="x@example.org").replies == [reply(550, "5.0.0", "mail")]
    sending = it.send(names("x", "b"))
    it.play(
        (b"MAIL FROM:<a@example.org> X=1\r\n", b"250 ok\r\n"),
        (b"RCPT TO:<b@example.org> X=2\r\n", b"550 no\r\n"),
    )
    assert sending.codes == [(550, "5.0.0"), (550, "")]


def test_parameters_of_what_is_not_offered_are_left_out():
    it = ClientConversation([Refusing()])
    it.connect(BASIC)
    it.send()
    it.play((MAIL, b"250 ok\r\n"), (RCPT, b"550 no\r\n"))


# Extensions


def test_all_extensions_together():
    it = begun(FULL)
    it.send(
        ["bücher@example.org"],
        "Subject: ü\r\n\r\n".encode(),
        parameters={"RET": "HDRS", "ENVID": "x", "X-OTHER": "1"},
        recipientParameters={"bücher@example.org": {"NOTIFY": "NEVER", "X-OTHER": "1"}},
    )
    it.hear(
        "MAIL FROM:<a@example.org> SIZE=15 BODY=8BITMIME SMTPUTF8 RET=HDRS ENVID=x\r\n"
        "RCPT TO:<bücher@example.org> NOTIFY=NEVER\r\nDATA\r\n".encode()
    )


def test_an_address_outside_ascii_is_refused_where_smtputf8_is_not_offered():
    it = begun(PIPELINING)
    it.hear(b"")
    assert it.send(sender="ü@example.org").replies == [local.UTF8_NOT_OFFERED]
    sending = it.send(["ü@example.org", "b@example.org"])
    it.hear(MAIL + RCPT + b"DATA\r\n")
    it.say(b"250 ok\r\n250 ok\r\n354 go\r\n")
    it.say(b"250 ok\r\n")
    assert sending.codes == [(553, "5.6.7"), (250, "")]


def test_a_domain_outside_ascii_goes_as_a_label_where_smtputf8_is_not_offered():
    it = begun()
    it.send(["b@bücher.example"])
    it.say(b"250 ok\r\n")
    it.hear(MAIL + b"RCPT TO:<b@xn--bcher-kva.example>\r\n")


def test_smtputf8_that_the_sender_asked_for_is_passed_on():
    it = begun(b"250-mx\r\n250 SMTPUTF8\r\n")
    it.send(parameters={"SMTPUTF8": None})
    it.hear(b"MAIL FROM:<a@example.org> SMTPUTF8\r\n")


@pytest.mark.parametrize(
    ("ehlo", "said"),
    [
        (b"250-mx\r\n250 DSN\r\n", r"utf-8;b\x{FC}\x{1F600}@x"),
        (b"250-mx\r\n250-SMTPUTF8\r\n250 DSN\r\n", "utf-8;bü😀@x"),
    ],
)
def test_an_original_recipient_outside_ascii_is_escaped_where_smtputf8_is_not_offered(ehlo, said):
    it = begun(ehlo)
    it.send(recipientParameters={"b@example.org": {"NOTIFY": "NEVER", "ORCPT": "utf-8;bü😀@x"}})
    it.say(b"250 ok\r\n")
    it.hear(MAIL + RCPT[:-2] + f" NOTIFY=NEVER ORCPT={said}\r\n".encode())


@pytest.mark.parametrize(
    ("limit", "isTaken"), [("43", True), ("42", False), ("0", True), ("", True), ("x", True)]
)
def test_a_message_over_the_servers_limit_is_not_sent(limit, isTaken):
    it = begun(f"250-mx\r\n250 SIZE {limit}\r\n".encode())
    it.hear(b"")
    sending = it.send(content=b"x" * 41 + b"\r\n")
    if isTaken:
        it.hear(b"MAIL FROM:<a@example.org> SIZE=43\r\n")
    else:
        assert sending.replies == [local.OVER_ITS_LIMIT]
        it.hear(b"")


def test_8bit_content_goes_as_it_is_to_a_server_without_8bitmime_unless_told_otherwise():
    content = b"caf\xe9\r\n"
    it = begun()
    it.send(content=content)
    it.play((MAIL, b"250 ok\r\n"), (RCPT, b"250 ok\r\n"), (b"DATA\r\n", b"354 go\r\n"))
    it.hear(content + b".\r\n")
    strict = ClientConversation([BodyClient(isStrict=True)])
    strict.connect(BASIC)
    assert strict.send(content=content).replies == [local.EIGHT_BIT_NOT_OFFERED]


CHUNKS = b"250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 BINARYMIME\r\n"
BINARY = b"MAIL FROM:<a@example.org> BODY=BINARYMIME\r\n"


@pytest.mark.parametrize(
    "content", [b"a\nb\r\n", b"no end", b"a\0b\r\n", b"x" * 1000 + b"\r\n", b"\r"]
)
def test_what_data_would_not_carry_goes_by_bdat_to_the_octet(content):
    it = begun(CHUNKS)
    sending = it.send(content=content)
    it.play((BINARY + RCPT, b"250 ok\r\n250 ok\r\n"))
    it.hear(b"BDAT %d LAST\r\n" % len(content) + content)
    it.say(b"250 2.0.0 ok\r\n")
    assert sending.codes == [(250, "2.0.0")]
    it.send()
    it.hear(MAIL + RCPT + b"DATA\r\n")


def test_bdat_is_not_said_where_no_recipient_was_accepted():
    it = begun(CHUNKS)
    sending = it.send(content=b"no end")
    it.say(b"250 ok\r\n550 no\r\n")
    it.hear(BINARY + RCPT)
    assert sending.codes == [(550, "")]


def test_without_bdat_content_gets_the_newline_that_the_end_of_data_begins_with():
    it = begun(PIPELINING)
    it.send(content=b"no end")
    it.say(b"250 ok\r\n250 ok\r\n354 go\r\n")
    it.hear(MAIL + RCPT + b"DATA\r\nno end\r\n.\r\n")


def test_chunking_without_binarymime_takes_long_lines_but_no_bare_newlines():
    it = begun(b"250-mx\r\n250-PIPELINING\r\n250 CHUNKING\r\n")
    content = b"x" * 1500 + b"\r\n"
    it.send(content=content)
    it.play((MAIL + RCPT, b"250 ok\r\n250 ok\r\n"))
    it.hear(b"BDAT 1502 LAST\r\n" + content)
    it.say(b"250 ok\r\n")
    assert it.send(content=b"\n").replies == [local.HAS_BARE_NEWLINE]


def test_nothing_is_used_that_no_extension_was_given_for():
    it = ClientConversation(extensions=[])
    it.connect(FULL)
    it.send(content=b"no end")
    it.play((MAIL, b"250 ok\r\n"), (RCPT, b"250 ok\r\n"), (b"DATA\r\n", b"354 go\r\n"))
    it.hear(b"no end\r\n.\r\n")


# Sources


def test_the_same_envelope_may_be_sent_again():
    file = BytesIO(b"not this" + CONTENT)
    file.seek(8)
    for content in (CONTENT, bytearray(CONTENT), memoryview(CONTENT), BytesContent(CONTENT), file):
        envelope = Envelope("a@example.org", ("b@example.org",), content)
        for _ in range(2):
            it = begun(PIPELINING, extensions=clientExtensions()[:2])
            it.client.send(envelope)
            it.say(b"250 ok\r\n250 ok\r\n354 go\r\n")
            it.hear(MAIL + RCPT + b"DATA\r\n" + STUFFED)


def test_a_file_that_cannot_seek_is_read_once_and_its_size_not_said():
    class Pipe(BytesIO):
        def seekable(self):
            return False

    it = begun(FULL)
    sending = it.send(content=Pipe(CONTENT))
    it.hear(b"MAIL FROM:<a@example.org> BODY=8BITMIME\r\n" + RCPT + b"DATA\r\n")
    it.say(b"250 ok\r\n250 ok\r\n354 go\r\n")
    it.play((STUFFED, b"250 ok\r\n"))
    assert sending.result.isDelivered


def test_a_large_content_is_looked_at_in_turns():
    it = begun(PIPELINING)
    it.hear(b"")
    it.send(content=b"x" * 78 + b"\r\n" * 1 + b"y" * 2_500_000)
    it.hear(b"")
    assert isinstance(it.clock, Clock)
    it.clock.advance(0)
    it.clock.advance(0)
    it.hear(MAIL + RCPT + b"DATA\r\n")
