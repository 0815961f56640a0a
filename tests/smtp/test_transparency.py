"""Content on its way out: dots and line ends at every border."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.smtp.content import DotReader
from mailsrv.smtp.transparency import BareNewline, DotStuffer, NewlineNormaliser

OCTETS = st.lists(st.sampled_from([b"\r\n", b".", b"\r", b"\n", b"a", b"\0", b"\xff"])).map(
    b"".join
)
LINES = st.lists(st.sampled_from([b"\r\n", b"\r\n.", b".", b"..", b"a", b"\xff"])).map(b"".join)


def cuts(octets: bytes, sizes: list[int]) -> list[bytes]:
    pieces, start = [], 0
    for size in sizes:
        pieces.append(octets[start : start + size])
        start += size
    return [*pieces, octets[start:]]


def stuffed(pieces: list[bytes]) -> bytes:
    stuffer = DotStuffer()
    return b"".join([*(stuffer.feed(piece) for piece in pieces), stuffer.finish()])


def unstuffed(wire: bytes) -> bytes:
    reader = DotReader(2**30, 0, False)
    content = reader.feed(wire)
    assert reader.isDone
    assert reader.fault is None
    assert reader.rest == b""
    return content


@given(LINES, st.lists(st.integers(0, 5), max_size=20))
def test_what_a_reader_makes_of_it_is_the_content(content, sizes):
    expected = content if not content or content.endswith(b"\r\n") else content + b"\r\n"
    assert unstuffed(stuffed(cuts(content, sizes))) == expected


@pytest.mark.parametrize("content", [b"a\r\n.\r\nb\r\n", b".", b"..\r\n.", b"\r\n.\r\n", b""])
def test_every_cut_in_two_or_three_gives_the_same_octets(content):
    whole = stuffed([content])
    for first in range(len(content) + 1):
        for second in range(first, len(content) + 1):
            pieces = [content[:first], content[first:second], content[second:]]
            assert stuffed(pieces) == whole


@pytest.mark.parametrize("power", range(10, 21))
def test_a_dot_at_every_offset_around_a_power_of_two(power):
    size = 2**power
    for offset in range(-4, 5):
        content = b"x" * (size + offset - 2) + b"\r\n.\r\n.." + b"y" * 5 + b"\r\n"
        pieces = [content[start : start + 2**10] for start in range(0, len(content), 2**10)]
        assert unstuffed(stuffed(pieces)) == content


@given(OCTETS, st.lists(st.integers(0, 5), max_size=20))
def test_a_bare_newline_is_never_let_through(content, sizes):
    isBare = re.search(rb"\r(?!\n)|(?<!\r)\n", content) is not None
    given_: list[bytes] = []
    stuffer = DotStuffer()
    try:
        given_.extend(stuffer.feed(piece) for piece in cuts(content, sizes))
        given_.append(stuffer.finish())
        raised = False
    except BareNewline:
        raised = True
    assert raised == isBare
    assert re.search(rb"\r(?!\n)|(?<!\r)\n", b"".join(given_)) is None


@given(OCTETS, st.lists(st.integers(0, 5), max_size=20))
def test_normalised_text_has_nothing_but_whole_newlines(text, sizes):
    normaliser = NewlineNormaliser()
    lines = b"".join(
        [*(normaliser.feed(piece) for piece in cuts(text, sizes)), normaliser.finish()]
    )
    assert lines == re.sub(rb"\r\n|\r|\n", b"\r\n", text)
