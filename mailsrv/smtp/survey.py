"""What content asks of its way: octets over 127, bare newlines, long lines (RFC 6152, 3030)."""

from __future__ import annotations

from dataclasses import dataclass

from mailsrv.smtp.content import hasBareNewline

MAX_LINE = 1000  # octets with CRLF (RFC 5321 §4.5.3.1.6)


@dataclass(frozen=True, slots=True)
class Traits:
    """`is8bit`: octets over 127. `hasBareNewlines`: a CR or LF alone, which DATA cannot carry.
    `isPlain`: DATA carries it as it is: lines of at most 1,000 octets, each ended by CRLF, no NUL.
    """

    is8bit: bool = False
    hasBareNewlines: bool = False
    isPlain: bool = True


class Survey:
    """Reads content once, in chunks cut anywhere, for its Traits."""

    def __init__(self) -> None:
        self._is8bit = False
        self._hasBareNewlines = False
        self._isPlain = True
        self._line = 0  # octets of the line whose LF has not come
        self._keptBack = b""

    def feed(self, data: bytes) -> None:
        """Look at a chunk; any size, also b''."""
        data = self._keptBack + data
        self._keptBack = b"\r" if data.endswith(b"\r") else b""
        if self._keptBack:
            data = data[:-1]
        if not data:
            return
        self._is8bit = self._is8bit or not data.isascii()
        self._hasBareNewlines = self._hasBareNewlines or hasBareNewline(data)
        self._isPlain = self._isPlain and not (b"\0" in data or self._hasLongLine(data))

    def _hasLongLine(self, data: bytes) -> bool:
        lengths = [len(line) for line in data.split(b"\n")]
        lengths[0] += self._line
        self._line = lengths[-1]
        return max(lengths) >= MAX_LINE

    def finish(self) -> Traits:
        """The Traits of all that was fed."""
        isBare = self._hasBareNewlines or bool(self._keptBack)
        return Traits(self._is8bit, isBare, self._isPlain and not isBare and self._line == 0)
