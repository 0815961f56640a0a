"""The octets of a queued message on their way out, a part at a time."""

from __future__ import annotations

import re
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from mailsrv.client.source import Source
from mailsrv.interfaces import IContentProducer, IQueue, QueuedMessage
from mailsrv.smtp.survey import Survey

PART = 1 << 20  # octets the queue reads at a time
PIECE = 65_536  # octets that are written at a time
MAX_RECEIVED = 50

_RETURN_PATH = re.compile(rb"Return-Path:.*\r\n(?:[ \t].*\r\n)*", re.IGNORECASE)
_RECEIVED = re.compile(rb"^Received[ \t]*:", re.IGNORECASE | re.MULTILINE)
_END_OF_HEADER = re.compile(rb"^\r?\n", re.MULTILINE)


def relayedTrace(message: QueuedMessage) -> bytes:
    """What goes in front of the content: the trace without its Return-Path (RFC 5321 §4.4)."""
    return _RETURN_PATH.sub(b"", message.trace)


def headerOf(octets: bytes) -> bytes:
    """The header section at the beginning of `octets`; all of it where it does not end."""
    end = _END_OF_HEADER.search(octets)
    return octets if end is None else octets[: end.start()]


def isLooping(octets: bytes) -> bool:
    """Whether a message has been through too many hands (RFC 5321 §6.3)."""
    return len(_RECEIVED.findall(headerOf(octets))) > MAX_RECEIVED


async def sourceOf(queue: IQueue, message: QueuedMessage, first: bytes) -> bytes | Source:
    """What an Envelope takes for content; `first`: the first part of the message's octets.

    A small message goes as bytes. A large one is read through once for its traits, and again as
    it is sent: never more than a part of it is in memory.
    """
    trace = relayedTrace(message)
    if message.size <= PART:
        return trace + first
    survey = Survey()
    survey.feed(trace)
    survey.feed(first)
    for index in range(1, _parts(message)):
        survey.feed(await queue.read(message.id, index))
    producer = PartsProducer(
        trace + first, lambda index: queue.read(message.id, index), _parts(message)
    )
    source = Source(None, len(trace) + message.size, producer)
    source.traits = survey.finish()
    return source


def _parts(message: QueuedMessage) -> int:
    return -(-message.size // PART)


@implementer(IContentProducer)
class PartsProducer:
    """Writes `first`, then the parts from 1 on, each read when it is its turn."""

    length: int | None = None  # the Source knows it

    def __init__(self, first: bytes, read: Callable[[int], Deferred[bytes]], parts: int) -> None:
        self._first = first
        self._read = read
        self._parts = parts
        self._resumed: Deferred[None] | None = None  # while paused
        self._isStopped = False

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        done: Deferred[None] = Deferred()
        Deferred.fromCoroutine(self._produce(consumer)).addCallbacks(
            lambda isWhole: done.callback(None) if isWhole else None, done.errback
        )
        return done

    def pauseProducing(self) -> None:
        if self._resumed is None:
            self._resumed = Deferred()

    def resumeProducing(self) -> None:
        resumed, self._resumed = self._resumed, None
        if resumed is not None:
            resumed.callback(None)

    def stopProducing(self) -> None:
        self._isStopped = True
        self.resumeProducing()

    async def _produce(self, consumer: IConsumer) -> bool:
        """Whether all was written."""
        part = self._first
        for index in range(self._parts):
            if index:
                part = await self._read(index)
            for start in range(0, len(part), PIECE):
                while self._resumed is not None:
                    await self._resumed
                if self._isStopped:
                    return False
                consumer.write(part[start : start + PIECE])
        return True
