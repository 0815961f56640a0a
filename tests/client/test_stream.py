"""Content under way: backpressure, producers, and what goes wrong in the middle."""

from __future__ import annotations

from io import BytesIO

import pytest
from twisted.internet.defer import Deferred
from zope.interface.verify import verifyObject

from clientconversation import CONTENT, STUFFED, ClientConversation, Results
from mailsrv.client.envelope import Envelope
from mailsrv.client.source import PIECE, PiecesProducer, sourceOf
from mailsrv.client.stream import ContentStream, Counted, WrongLength
from mailsrv.interfaces import IContentProducer
from mailsrv.smtp import local
from mailsrv.smtp.reply import reply

PIPELINING = b"250-mx\r\n250 PIPELINING\r\n"
BINARY = b"250-mx\r\n250-PIPELINING\r\n250-CHUNKING\r\n250 BINARYMIME\r\n"
GO = b"250 ok\r\n250 ok\r\n354 go\r\n"


class Producer:
    """A producer the test moves by hand."""

    def __init__(self, length: object = "unknown") -> None:
        self.length = length
        self.done: Deferred[None] = Deferred()
        self.calls: list[str] = []
        self.consumer = None

    def startProducing(self, consumer):
        self.consumer = consumer
        return self.done

    def pauseProducing(self):
        self.calls.append("pause")

    def resumeProducing(self):
        self.calls.append("resume")

    def stopProducing(self):
        self.calls.append("stop")


def sent(content: object, ehlo: bytes = PIPELINING, answers: bytes = GO):
    it = ClientConversation()
    it.connect(ehlo)
    sending = it.send(content=content)
    it.say(answers)
    it.wire.clear()
    return it, sending


def test_a_producer_is_paused_with_the_wire_and_resumed_with_it():
    producer = Producer()
    it, sending = sent(producer)
    assert it.wire.streaming
    producer.consumer.write(b".one\r")
    producer.consumer.write(b"\n.two\r\n")
    it.hear(b"..one\r\n..two\r\n")
    it.wire.producer.pauseProducing()
    it.wire.producer.resumeProducing()
    assert producer.calls == ["pause", "resume"]
    producer.done.callback(None)
    it.hear(b".\r\n")
    assert it.wire.producer is None
    it.say(b"250 2.0.0 ok\r\n")
    assert sending.codes == [(250, "2.0.0")]


def test_a_file_is_read_no_faster_than_the_wire_takes_it():
    class Counting(BytesIO):
        octets = 0

        def read(self, size=-1):
            piece = super().read(size)
            self.octets += len(piece)
            return piece

    content = b"x" * 78 + b"\r\n"
    file = Counting(content * 10_000)
    it = ClientConversation()
    it.connect(PIPELINING)
    sending = it.send(content=file)
    write = it.wire.write

    def full(octets: bytes) -> None:
        write(octets)
        if it.wire.producer is not None:
            it.wire.producer.pauseProducing()

    it.say(b"250 ok\r\n250 ok\r\n")
    it.wire.clear()
    it.wire.write = full
    file.octets = 0
    it.say(b"354 go\r\n")
    for turn in range(1, 13):
        assert file.octets == turn * PIECE
        it.wire.producer.resumeProducing()
    while it.wire.producer is not None:
        it.wire.producer.resumeProducing()
    it.hear(content * 10_000 + b".\r\n")
    it.say(b"250 ok\r\n")
    assert sending.result.isDelivered


def test_a_server_that_takes_nothing_for_three_minutes_is_given_up():
    producer = Producer()
    it, sending = sent(producer)
    for _ in range(5):
        it.clock.advance(179)
        producer.consumer.write(b"x\r\n")
    it.clock.advance(179)
    it.wire.producer.resumeProducing()
    it.clock.advance(179)
    assert it.wire.ending == ""
    it.clock.advance(2)
    assert sending.replies == [local.NO_REPLY_IN_TIME]
    assert producer.calls == ["resume", "stop"]


def test_a_reply_before_the_end_that_refuses_is_final_and_ends_the_connection():
    producer = Producer()
    it, sending = sent(producer)
    producer.consumer.write(b"x\r\n")
    it.say(b"552 5.3.4 too big\r\n")
    assert sending.replies == [reply(552, "5.3.4", "too big")]
    assert it.wire.ending == "aborted"
    it.hear(b"x\r\n")
    producer.consumer.write(b"more\r\n")
    producer.done.callback(None)
    it.hear(b"")


@pytest.mark.parametrize(
    ("early", "said"),
    [
        (b"550 5.7.1 no", reply(550, "5.7.1", "no")),
        (b"250 2.0.0 queued", local.UNASKED_REPLY),
        (b"421 4.3.2 mx down", reply(421, "4.3.2", "mx down")),
    ],
)
@pytest.mark.parametrize("ending", [b"\r\n", b""])
def test_a_reply_that_came_with_the_354_is_heard_before_any_content_is_sent(early, said, ending):
    it, sending = sent(CONTENT, answers=GO + early + ending)
    it.say(b"" if ending else b"\r\n")
    assert sending.replies == [said]
    assert it.wire.ending == "aborted"
    it.hear(b"")


def test_a_success_before_the_end_is_not_believed():
    it, sending = sent(Producer())
    it.say(b"250 2.0.0 queued\r\n")
    assert sending.replies == [local.UNASKED_REPLY]
    assert it.wire.ending == "aborted"


def test_a_drop_in_the_middle_stops_the_producer():
    producer = Producer()
    it, sending = sent(producer)
    it.drop()
    assert producer.calls == ["stop"]
    assert sending.replies == [local.DROPPED]


def test_a_producer_that_fails_leaves_half_a_message_that_must_not_look_whole():
    producer = Producer()
    it, sending = sent(producer)
    producer.consumer.write(b"half\r\n")
    producer.done.errback(OSError("disk"))
    assert sending.replies == [local.UNREADABLE]
    assert it.wire.ending == "aborted"
    it.hear(b"half\r\n")


def test_a_file_that_fails_likewise():
    class Broken(BytesIO):
        def read(self, size=-1):
            if self.tell():
                raise OSError("disk")
            return super().read(3)

        def seekable(self):
            return False

    it, sending = sent(Broken(b"a\r\nb\r\n"))
    assert sending.replies == [local.UNREADABLE]
    assert it.wire.ending == "aborted"


def test_a_file_that_cannot_be_looked_at_first_leaves_the_connection_alone():
    file = BytesIO(b"a\r\n")
    it = ClientConversation()
    it.connect(PIPELINING)
    envelope = Envelope("a@example.org", ("b@example.org",), file)
    file.close()
    sending = Results(it.client.send(envelope))
    assert sending.replies == [local.UNREADABLE]
    assert it.client.isConnected


def test_a_producer_that_cannot_start():
    class Failing(Producer):
        def startProducing(self, consumer):
            raise OSError("gone")

    it, sending = sent(Failing())
    assert sending.replies == [local.UNREADABLE]
    assert it.wire.ending == "aborted"


@pytest.mark.parametrize("pieces", [[b"a\r\nb\nc\r\n"], [b"a\r\nb\r", b"c\r\n"], [b"a\r\nb\r"]])
def test_a_bare_newline_found_on_the_way_ends_the_connection_before_it_is_sent(pieces):
    producer = Producer()
    it, sending = sent(producer)
    for piece in pieces:
        producer.consumer.write(piece)
    producer.done.callback(None)
    assert sending.replies == [local.HAS_BARE_NEWLINE]
    assert it.wire.ending == "aborted"
    assert it.wire.value() in (b"", b"a\r\nb")


def test_a_producer_of_known_length_goes_by_bdat_where_anything_may_be_in_it():
    producer = Producer(4)
    it = ClientConversation()
    it.connect(BINARY)
    sending = it.send(content=producer)
    it.say(b"250 ok\r\n250 ok\r\n")
    it.wire.clear()
    producer.consumer.write(b"a\n")
    producer.consumer.write(b"\r\0")
    producer.done.callback(None)
    it.hear(b"a\n\r\0")
    it.say(b"250 ok\r\n")
    assert sending.result.isDelivered


@pytest.mark.parametrize("octets", [b"abc", b"abcde"])
def test_a_producer_that_gives_more_or_less_than_it_said(octets):
    producer = Producer(4)
    it, sending = sent(producer, BINARY, b"250 ok\r\n250 ok\r\n")
    producer.consumer.write(octets)
    producer.done.callback(None)
    assert sending.replies == [local.UNREADABLE]
    assert it.wire.ending == "aborted"


def test_pieces_are_given_one_at_a_time_and_none_once_stopped():
    class Consumer:
        def __init__(self):
            self.pieces = []

        def write(self, piece):
            self.pieces.append(piece)
            producer.pauseProducing()
            if piece == b"2":
                producer.resumeProducing()

    consumer = Consumer()
    producer = PiecesProducer(iter([b"1", b"2", b"3", b"4"]), 4)
    verifyObject(IContentProducer, producer)
    producer.startProducing(consumer)
    assert consumer.pieces == [b"1"]
    producer.resumeProducing()
    assert consumer.pieces == [b"1", b"2", b"3"]
    producer.stopProducing()
    producer.resumeProducing()
    assert consumer.pieces == [b"1", b"2", b"3"]


def test_a_wire_that_is_gone_at_once_never_starts_the_producer():
    producer = Producer()
    stream = ContentStream(producer, Counted(0), lambda _: None, lambda: None)
    stream.pauseProducing()
    stream.resumeProducing()
    stream.stopProducing()
    stream.stopProducing()
    stream.start()
    assert producer.consumer is None
    assert producer.calls == []


def test_counted_octets_are_exactly_as_many():
    counted = Counted(3)
    assert counted.feed(b"ab") == b"ab"
    with pytest.raises(WrongLength):
        counted.finish()
    assert counted.feed(b"c") == b"c"
    assert counted.finish() == b""
    with pytest.raises(WrongLength):
        counted.feed(b"d")


def test_producers_of_the_old_manner_may_register_themselves():
    producer = Producer()
    it, _ = sent(producer)
    producer.consumer.registerProducer(producer, True)
    producer.consumer.write(CONTENT)
    producer.consumer.unregisterProducer()
    producer.done.callback(None)
    it.hear(STUFFED)


def test_a_source_is_a_source_already():
    source = sourceOf(b"x")
    assert sourceOf(source) is source
