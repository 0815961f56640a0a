"""Content on its way from the wire to the spool."""

from __future__ import annotations

from mailsrv.server.spool import Spool
from mailsrv.smtp import reply as r
from mailsrv.smtp.content import CountedReader, DotReader
from mailsrv.smtp.errors import OutOfRoom
from mailsrv.smtp.reply import Reply


class Reception:
    """The octets between DATA, or BDAT, and the reply they are answered with.

    What will be refused is read to its end and not kept. `verb`: the command they belong to.
    `isLast`: whether the message ends with them. `fault`: the Reply that refuses them, or None;
    final once they have ended; with `refusal` it is known before they come. `isDrained`: they are
    no part of a transaction.
    """

    __slots__ = ("_isFull", "_reader", "_refusal", "_spool", "isDrained", "isLast", "verb")

    def __init__(
        self,
        verb: str,
        reader: DotReader | CountedReader,
        spool: Spool | None,
        *,
        isLast: bool = True,
        refusal: Reply | None = None,
        isDrained: bool = False,
    ) -> None:
        self.verb = verb
        self.isLast = isLast
        self._reader = reader
        self._spool = spool
        self._refusal = refusal
        self.isDrained = isDrained
        self._isFull = False

    @property
    def fault(self) -> Reply | None:
        return self._refusal or self._reader.fault or (r.OUT_OF_ROOM if self._isFull else None)

    def feed(self, data: bytes) -> bytes | None:
        """Take octets; None until the end has come, then the octets behind it."""
        reader, spool = self._reader, self._spool
        octets = reader.feed(data)
        if spool is not None:
            if self._refusal is not None or reader.fault is not None:
                spool.close()
            elif octets and not self._isFull:
                try:
                    spool.write(octets)
                except OutOfRoom:
                    self._isFull = True
        return reader.rest if reader.isDone else None
