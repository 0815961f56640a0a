"""mboxrd's quoting: a line that begins like the head of a message gets one more `>`.

Both directions work on octets that come in pieces cut anywhere, with bounded memory.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_FROM = b"From "
_PLAIN = re.compile(rb"\n(>*)From ")
_QUOTED = re.compile(rb"\n>(>*)From ")


def quoted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """`From `, behind any number of `>` at the start of a line, gets one `>` more."""
    return _edited(pieces, _PLAIN, rb"\n>\1From ", 0)


def unquoted(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The octets that were given to `quoted`."""
    return _edited(pieces, _QUOTED, rb"\n\1From ", 1)


def _edited(
    pieces: Iterable[bytes], pattern: re.Pattern[bytes], replacement: bytes, held: int
) -> Iterator[bytes]:
    """Replace at starts of lines; what may be one still is held back: at most `held` of its `>`,
    and the first letters of From. It makes no difference which `>` of a run comes or goes."""
    rest = b""
    isStart = True  # whether `rest` follows a line feed, or some > behind one
    for piece in pieces:
        data = (b"\n" if isStart else b"") + rest + piece
        start = data.rfind(b"\n") + 1
        letters = data[start:].lstrip(b">")
        isNext = start > 0 and _FROM.startswith(letters) and letters != _FROM
        keep = 0
        if isNext:
            keep = len(letters) + min(held, len(data) - start - len(letters))
        edited = pattern.sub(replacement, data[: len(data) - keep])
        yield edited[1:] if isStart else edited
        rest, isStart = data[len(data) - keep :], isNext
    yield rest
