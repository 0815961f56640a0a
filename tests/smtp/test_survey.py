"""What content asks of its way."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.smtp.survey import Survey, Traits


def survey(*pieces: bytes) -> Traits:
    reader = Survey()
    for piece in pieces:
        reader.feed(piece)
    return reader.finish()


@pytest.mark.parametrize(
    ("content", "traits"),
    [
        (b"", Traits()),
        (b"plain\r\n", Traits()),
        (b"caf\xc3\xa9\r\n", Traits(is8bit=True)),
        (b"no end", Traits(isPlain=False)),
        (b"a\0b\r\n", Traits(isPlain=False)),
        (b"a\nb\r\n", Traits(hasBareNewlines=True, isPlain=False)),
        (b"a\r", Traits(hasBareNewlines=True, isPlain=False)),
        (b"x" * 998 + b"\r\n", Traits()),
        (b"x" * 999 + b"\r\n", Traits(isPlain=False)),
    ],
)
def test_traits(content, traits):
    assert survey(content) == traits


@given(
    st.lists(st.sampled_from([b"\r\n", b"\r", b"\n", b"a", b"\xff", b"\0", b"x" * 333])).map(
        b"".join
    ),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_the_same_wherever_it_is_cut_and_right(content, sizes):
    pieces, start = [], 0
    for size in sizes:
        pieces.append(content[start : start + size])
        start += size
    isBare = re.search(rb"\r(?!\n)|(?<!\r)\n", content) is not None
    isLong = any(len(line) > 999 for line in content.split(b"\n"))
    isEnded = not content or content.endswith(b"\r\n")
    isPlain = not isBare and not isLong and isEnded and b"\0" not in content
    assert survey(*pieces, content[start:]) == Traits(not content.isascii(), isBare, isPlain)
