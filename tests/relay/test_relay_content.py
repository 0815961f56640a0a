"""Content on its way out of the queue: backpressure, faults, and being stopped."""

from __future__ import annotations

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from mailsrv.interfaces import IContentProducer
from mailsrv.relay.content import PIECE, PartsProducer, isLooping

FIRST = b"a" * PIECE + b"b" * PIECE + b"c"


class Consumer:
    """Takes what is produced, and pauses the producer after each piece if `isSlow`."""

    def __init__(self, isSlow: bool = False) -> None:
        self.octets = b""
        self.isSlow = isSlow
        self.producer: PartsProducer | None = None

    def write(self, data: bytes) -> None:
        self.octets += data
        if self.isSlow and self.producer is not None:
            self.producer.pauseProducing()
            self.producer.pauseProducing()


class Parts:
    """Reads that are answered when the test says."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, Deferred[bytes]]] = []

    def read(self, index: int) -> Deferred[bytes]:
        self.asked.append((index, Deferred()))
        return self.asked[-1][1]


def start(producer: PartsProducer, consumer: Consumer) -> list[object]:
    results: list[object] = []
    consumer.producer = producer
    producer.startProducing(consumer).addBoth(results.append)
    return results


def test_it_is_a_producer_of_content() -> None:
    assert verifyObject(IContentProducer, PartsProducer(b"", lambda _: succeed(b""), 1))


def test_a_part_is_read_when_it_is_its_turn() -> None:
    parts, consumer = Parts(), Consumer()
    results = start(PartsProducer(FIRST, parts.read, 3), consumer)
    assert (consumer.octets, [index for index, _ in parts.asked]) == (FIRST, [1])
    parts.asked[0][1].callback(b"second")
    parts.asked[1][1].callback(b"third")
    assert (consumer.octets, results) == (FIRST + b"secondthird", [None])


def test_nothing_is_written_nor_read_while_the_consumer_is_full() -> None:
    parts, consumer = Parts(), Consumer(isSlow=True)
    producer = PartsProducer(FIRST, parts.read, 2)
    results = start(producer, consumer)
    assert len(consumer.octets) == PIECE
    producer.resumeProducing()
    producer.resumeProducing()
    assert (consumer.octets, parts.asked[0][0]) == (FIRST, 1)
    producer.pauseProducing()
    parts.asked[0][1].callback(b"!")
    assert consumer.octets == FIRST
    producer.resumeProducing()
    assert (consumer.octets, results) == (FIRST + b"!", [None])
    producer.resumeProducing()  # nobody is there any more


def test_a_part_that_cannot_be_read_fails_the_whole() -> None:
    parts, consumer = Parts(), Consumer()
    results = start(PartsProducer(b"x", parts.read, 2), consumer)
    parts.asked[0][1].errback(OSError())
    [failure] = results
    assert isinstance(failure, Failure)
    assert failure.check(OSError)


def test_once_stopped_nothing_is_written_and_nobody_is_told() -> None:
    for isPaused in (False, True):
        parts, consumer = Parts(), Consumer(isSlow=isPaused)
        producer = PartsProducer(FIRST, parts.read, 2)
        results = start(producer, consumer)
        written = consumer.octets
        producer.stopProducing()
        if parts.asked:
            parts.asked[0][1].callback(b"late")
        assert (consumer.octets, results) == (written, [])


def test_only_received_fields_of_the_header_count() -> None:
    assert not isLooping(b"Received: x\r\n" * 50 + b"\r\n" + b"Received: x\r\n" * 50)
    assert isLooping(b"received : x\r\n\tReceived:\r\n" * 51)
    assert isLooping(b"Received: x\n" * 51 + b"\n")
    assert not isLooping(b"X-Received: x\r\n" * 99)
