"""Where the octets of an outgoing message come from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from io import SEEK_END
from typing import Any, BinaryIO, cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer, IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from mailsrv.interfaces import IContentProducer
from mailsrv.smtp.message import BytesContent, Content
from mailsrv.smtp.survey import Survey, Traits

PIECE = 65_536  # octets read and written at a time
PIECES_A_TURN = 16  # looked at before others shall have their turn

Pieces = Callable[[], Iterator[bytes]]


@implementer(IContentProducer)
class PiecesProducer:
    """Gives pieces to a consumer for as long as it takes them; never two pieces in memory."""

    def __init__(self, pieces: Iterator[bytes], length: int | None) -> None:
        self.length = length
        self._pieces = pieces
        self._isPaused = False
        self._isRunning = False
        self._done: Deferred[None] = Deferred()
        self._consumer: IConsumer | None = None

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        self._consumer = consumer
        self.resumeProducing()
        return self._done

    def pauseProducing(self) -> None:
        self._isPaused = True

    def resumeProducing(self) -> None:
        self._isPaused = False
        if not self._isRunning:
            self._isRunning = True
            self._run()
            self._isRunning = False

    def stopProducing(self) -> None:
        self._isPaused = True
        self._consumer = None

    def _run(self) -> None:
        while not self._isPaused and self._consumer is not None:
            try:
                piece = next(self._pieces, None)
            except Exception:
                self.stopProducing()
                self._done.errback()
                return
            if piece is None:
                self.stopProducing()
                self._done.callback(None)
            else:
                self._consumer.write(piece)


class Source:
    """The content of an envelope, as often as it is sent.

    `length`: octets in all, None where that is not known. `traits`: None until surveyed, and
    where the content cannot be read twice.
    """

    def __init__(self, pieces: Pieces | None, length: int | None, producer: Any = None) -> None:
        self.length = length
        self.traits: Traits | None = None
        self._pieces = pieces
        self._producer = producer

    async def survey(self, clock: IReactorTime) -> None:
        """Read the content for its traits, a turn of the reactor for each MiB."""
        if self.traits is not None or self.length is None or self._pieces is None:
            return
        survey = Survey()
        for number, piece in enumerate(self._pieces(), 1):
            survey.feed(piece)
            if number % PIECES_A_TURN == 0:
                await deferLater(clock, 0)
        self.traits = survey.finish()

    def producer(self) -> IContentProducer:
        """What gives the octets to one connection."""
        if self._pieces is None:
            return cast(IContentProducer, self._producer)
        return PiecesProducer(_each(self._pieces), self.length)


def _each(pieces: Pieces) -> Iterator[bytes]:
    """What `pieces` gives; what it raises too comes only when the first is asked for."""
    yield from pieces()


def sourceOf(content: object) -> Source:
    """The Source of what a caller gave: see `Envelope`. Raises TypeError."""
    if isinstance(content, Source):
        return content
    if isinstance(content, bytes | bytearray | memoryview):
        content = BytesContent(bytes(content))
    if hasattr(content, "pieces"):
        held = cast(Content, content)
        return Source(lambda: held.pieces(PIECE), held.size)
    if hasattr(content, "startProducing"):
        length = getattr(content, "length", None)  # twisted.web says an unknown one by a string
        return Source(None, length if isinstance(length, int) else None, content)
    if hasattr(content, "read"):
        return _ofFile(cast(BinaryIO, content))
    raise TypeError(f"content is {type(content).__name__}: give bytes, a file or a producer")


def _ofFile(file: BinaryIO) -> Source:
    """From where the file stands to its end; a file that cannot seek is read once."""
    if not file.seekable():
        return Source(lambda: _read(file), None)
    start = file.tell()
    length = file.seek(0, SEEK_END) - start

    def fromStart() -> Iterator[bytes]:
        file.seek(start)
        yield from _read(file)

    return Source(fromStart, length)


def _read(file: BinaryIO) -> Iterator[bytes]:
    while piece := file.read(PIECE):
        yield piece
