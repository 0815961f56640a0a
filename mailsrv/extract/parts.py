"""The parts of a message (RFC 2046), in one pass and without recursion.

Not by the standard library's parser: it tries every line against every open boundary.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mailsrv.extract.header import Fields, boundaryOf, encodingOf, kindOf, readHeader
from mailsrv.extract.text import TRANSFER_DECODERS

MAX_PARTS = 200
MAX_DEPTH = 30

_DELIMITER = re.compile(rb"\n--(.*)")


@dataclass(frozen=True, slots=True)
class Part:
    """A part that holds no parts; `isEmbedded` within an embedded message."""

    fields: Fields
    kind: str
    isEmbedded: bool
    start: int

    @property
    def rank(self) -> int | None:
        """How gladly a person reads it, 0 the most; None: not at all."""
        if self.fields.get(b"content-disposition", b"")[:10].lower() == b"attachment":
            return None
        if not self.kind.startswith("text/"):
            return None
        return {"text/plain": 0, "text/html": 1}.get(self.kind, 2) + 3 * self.isEmbedded


class Parts:
    """One pass over all lines that begin with --, however deep the parts are nested."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets
        self.open: list[tuple[bytes, str, bool]] = []  # boundary, default kind, isEmbedded
        self.levels: dict[bytes, int] = {}  # of the boundaries of `open`

    def walk(self, fields: Fields, start: int) -> Iterator[tuple[Part, int]]:
        """Each part that holds no parts, and where it ends."""
        octets = self.octets
        part = self._enter(fields, start, "text/plain", False)
        if part:  # nothing is open: the message is one part
            yield part, len(octets)
            return
        count = 0
        for delimiter in _DELIMITER.finditer(octets, max(start - 1, 0)):
            line = delimiter[1].rstrip()
            level = self.levels.get(line)
            isLast = level is None and line.endswith(b"--")
            if isLast:
                level = self.levels.get(line[:-2])
            if level is None:
                continue
            if part:
                yield part, delimiter.start()
                part = None
            self._close(level + (not isLast))
            count += 1
            if count > MAX_PARTS:
                return
            if not isLast:
                _, kind, isEmbedded = self.open[level]
                fields, inner = readHeader(octets, delimiter.end() + 1)
                part = self._enter(fields, inner, kind, isEmbedded)
        if part:
            yield part, len(octets)
        elif not count:  # a multipart whose boundary never comes: what it holds may be text
            yield Part({}, "text/plain", False, start), len(octets)

    def _enter(self, fields: Fields, start: int, kind: str, isEmbedded: bool) -> Part | None:
        """The part that begins here, or None: it is a multipart, and is open now."""
        kind = kindOf(fields, kind)
        for _ in range(MAX_DEPTH):
            if kind != "message/rfc822" or encodingOf(fields) in TRANSFER_DECODERS:
                break
            fields, start = readHeader(self.octets, start)
            kind, isEmbedded = kindOf(fields, "text/plain"), True
        if kind.startswith("multipart/"):
            boundary = boundaryOf(fields)
            if not boundary:
                return Part({}, "text/plain", isEmbedded, start)
            if len(self.open) < MAX_DEPTH and boundary not in self.levels:
                default = "message/rfc822" if kind == "multipart/digest" else "text/plain"
                self.levels[boundary] = len(self.open)
                self.open.append((boundary, default, isEmbedded))
                return None
        return Part(fields, kind, isEmbedded, start)

    def _close(self, depth: int) -> None:
        for boundary, _, _ in self.open[depth:]:
            del self.levels[boundary]
        del self.open[depth:]
