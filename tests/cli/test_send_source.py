"""Where `smtpstore send` takes its octets from: a piece at a time, twice, CRLF throughout."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.cli import send
from mailsrv.cli.send import rewindable, sourceFrom, withCrlf
from mailsrv.client.source import PIECE, Source


def octetsOf(source: Source) -> bytes:
    assert source._pieces is not None
    return b"".join(source._pieces())


class Watched(io.BytesIO):
    """A file that knows the most it was asked for at once."""

    most = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.most = max(self.most, len(self.getvalue()) if size in (None, -1) else size or 0)
        return super().read(size)


class Pipe(Watched):
    """What can be read once."""

    def seekable(self) -> bool:
        return False

    def seek(self, *place: int) -> int:
        raise io.UnsupportedOperation

    tell = seek  # type: ignore[assignment]


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"."])), st.integers(1, 4))
def test_it_is_the_whole_with_crlf_wherever_it_is_cut(parts: list[bytes], size: int) -> None:
    octets = b"".join(parts)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(send, "PIECE", size)
        source = sourceFrom(io.BytesIO(octets))
        assert octetsOf(source) == withCrlf(octets)
    assert source.length == len(withCrlf(octets))


def test_it_begins_where_the_file_stands_and_can_be_read_again() -> None:
    file = io.BytesIO(b"not this\nbut this\n")
    file.readline()
    source = sourceFrom(file)
    assert octetsOf(source) == octetsOf(source) == b"but this\r\n"


def test_of_a_large_file_a_piece_is_read_at_a_time() -> None:
    file = Watched(b"0123456789\n" * 300_000)
    with rewindable(file) as content:
        source = sourceFrom(content)
        assert len(octetsOf(source)) == source.length == 12 * 300_000
    assert file.most == PIECE


@pytest.mark.parametrize("lines", [1, 300_000], ids=["in memory", "in a file"])
def test_a_pipe_is_copied_a_piece_at_a_time(lines: int) -> None:
    pipe = Pipe(b"0123456789\n" * lines)
    with rewindable(pipe) as content:
        source = sourceFrom(content)
        assert octetsOf(source) == octetsOf(source) == b"0123456789\r\n" * lines
    assert pipe.most == PIECE
    assert content.closed
