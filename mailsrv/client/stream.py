"""Content under way: from a producer, through an encoding, to the wire."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.interfaces import IContentProducer


class Encoding(Protocol):
    """How content is put for the wire."""

    def feed(self, data: bytes) -> bytes:
        """The octets to send for a chunk; raises ValueError where there are none."""

    def finish(self) -> bytes:
        """The octets that end it; raises ValueError where it must not end here."""


class WrongLength(ValueError):
    """A producer did not give as many octets as it had said."""


class Counted:
    """The encoding of BDAT: the octets as they are, exactly as many as were announced."""

    def __init__(self, octets: int) -> None:
        self._missing = octets

    def feed(self, data: bytes) -> bytes:
        self._missing -= len(data)
        if self._missing < 0:
            raise WrongLength
        return data

    def finish(self) -> bytes:
        if self._missing:
            raise WrongLength
        return b""


@implementer(IConsumer, IPushProducer)
class ContentStream:
    """Stands between a producer and the wire: consumer of the one, producer for the other.

    `write`: puts octets on the wire. `moved`: called whenever there is progress.
    """

    def __init__(
        self,
        producer: IContentProducer,
        encoding: Encoding,
        write: Callable[[bytes], None],
        moved: Callable[[], None],
    ) -> None:
        self._producer = producer
        self._encoding = encoding
        self._write = write
        self._moved = moved
        self._isOpen = True
        self._isStarted = False
        self._done: Deferred[None] = Deferred()

    def start(self) -> Deferred[None]:
        """Fires when all is written, the end included; fails with what the encoding or the
        producer raised. Never fires once stopped."""
        if self._isOpen:
            self._isStarted = True
            started = maybeDeferred(self._producer.startProducing, self)
            started.addCallbacks(self._ended, self._fail)
        return self._done

    def _ended(self, _: object) -> None:
        if not self._isOpen:
            return
        try:
            last = self._encoding.finish()
        except ValueError as error:
            self._fail(error)
            return
        self._isOpen = False
        self._write(last)
        self._done.callback(None)

    def _fail(self, fault: Failure | Exception) -> None:
        if self._isOpen:
            self._isOpen = False
            self._done.errback(fault)

    # The producer's consumer

    def write(self, data: bytes) -> None:
        if not self._isOpen:
            return
        try:
            octets = self._encoding.feed(data)
        except ValueError as error:
            self._producer.stopProducing()
            self._fail(error)
            return
        self._moved()
        if octets:
            self._write(octets)

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """The producer is known already."""

    def unregisterProducer(self) -> None:
        """It says that it is done by its Deferred."""

    # The wire's producer

    def pauseProducing(self) -> None:
        if self._isOpen and self._isStarted:
            self._producer.pauseProducing()

    def resumeProducing(self) -> None:
        if self._isOpen and self._isStarted:
            self._moved()
            self._producer.resumeProducing()

    def stopProducing(self) -> None:
        if self._isOpen:
            self._isOpen = False
            if self._isStarted:
                self._producer.stopProducing()
