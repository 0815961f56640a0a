"""Replies as a client reads them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsrv.smtp.reply import Reply, reply
from mailsrv.smtp.replyreader import MAX_LINE, MAX_LINES, MAX_REPLY, MalformedReply, ReplyReader


def read(octets: bytes, piece: int = 0) -> list[Reply]:
    reader = ReplyReader()
    replies = []
    for start in range(0, len(octets), piece or len(octets)):
        reader.feed(octets[start : start + (piece or len(octets))])
        while (found := reader.next()) is not None:
            replies.append(found)
    assert reader.isEmpty
    return replies


@pytest.mark.parametrize("piece", [0, 1, 2, 3, 5, 11])
def test_replies_are_the_same_however_the_octets_are_cut(piece):
    octets = b"220 mx.example ESMTP\r\n250-mx\r\n250-SIZE 1\r\n250 HELP\r\n354\r\n250 2.1.0 OK\r\n"
    assert read(octets, piece) == [
        reply(220, "", "mx.example ESMTP"),
        reply(250, "", "mx", "SIZE 1", "HELP"),
        reply(354, "", ""),
        reply(250, "2.1.0", "OK"),
    ]


def test_the_enhanced_code_is_taken_off_every_line_that_has_it():
    octets = b"550-5.1.1 No such\r\n550-5.7.1 other\r\n550-\r\n550-5.1.1\r\n550 5.1.1 user\r\n"
    assert read(octets) == [reply(550, "5.1.1", "No such", "5.7.1 other", "", "", "user")]


@pytest.mark.parametrize("text", ["2.1 no", "2.1.0OK", "5.1.0 of another class", "3.1.0 x"])
def test_what_only_looks_like_an_enhanced_code_stays_text(text):
    assert read(f"250 {text}\r\n".encode()) == [reply(250, "", text)]


def test_text_of_other_alphabets_is_read_and_what_is_no_utf8_is_replaced():
    assert read("250 Grüße\r\n".encode())[0].text == "Grüße"
    assert read(b"250 gr\xfc\r\n")[0].text == "gr\ufffd"


def test_control_characters_do_not_reach_a_log():
    assert read(b"250 a\x1b[2Jb\tc\r\n")[0].text == "a [2Jb c"


@pytest.mark.parametrize(
    "octets",
    [
        b"\n",
        b"\r\n",
        b"250 OK\n",
        b"250 a\rb\r\n",
        b"250 a\0b\r\n",
        b"25 OK\r\n",
        b"2500 OK\r\n",
        b"250_OK\r\n",
        b"150 OK\r\n",
        b"650 OK\r\n",
        b"260 OK\r\n",
        b" 250 OK\r\n",
        b"250-a\r\n251 b\r\n",
        b"250-a\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n",
    ],
)
def test_what_is_no_reply_is_refused(octets):
    with pytest.raises(MalformedReply):
        read(octets)


def test_a_line_has_a_longest_length():
    longest = b"250 " + b"x" * (MAX_LINE - 6) + b"\r\n"
    assert len(read(longest, 100)[0].text) == MAX_LINE - 6
    with pytest.raises(MalformedReply):
        read(b"250 " + b"x" * (MAX_LINE - 5) + b"\r\n")


def test_a_line_without_end_is_refused_before_it_fills_the_memory():
    reader = ReplyReader()
    reader.feed(b"250 " + b"x" * MAX_LINE)
    with pytest.raises(MalformedReply):
        reader.next()


def test_a_reply_without_end_is_refused():
    assert len(read(b"250-x\r\n" * (MAX_LINES - 1) + b"250 x\r\n")[0].lines) == MAX_LINES
    with pytest.raises(MalformedReply):
        read(b"250-x\r\n" * MAX_LINES + b"250 x\r\n")


def test_a_reply_has_a_longest_length():
    line = b"x" * 1994
    longest = (b"250-" + line + b"\r\n") * (MAX_REPLY // 2000 - 1) + b"250 " + line + b"\r\n"
    assert len(longest) <= MAX_REPLY
    assert len(read(longest * 2, 5000)) == 2
    with pytest.raises(MalformedReply):
        read((b"250-" + line + b"\r\n") + longest)


def test_it_tells_whether_anything_is_left_over():
    reader = ReplyReader()
    for octets in (b"2", b"50-a\r\n", b"250 b\r\n"):
        reader.feed(octets)
        assert not reader.isEmpty
        said = reader.next()
    assert said == reply(250, "", "a", "b")
    assert reader.isEmpty


@given(st.binary(max_size=400), st.integers(1, 30))
def test_any_octets_give_replies_or_a_refusal(octets, piece):
    reader = ReplyReader()
    try:
        for start in range(0, len(octets), piece):
            reader.feed(octets[start : start + piece])
            while (found := reader.next()) is not None:
                assert 200 <= found.code < 600
    except MalformedReply:
        pass


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=40)


@given(
    st.integers(0, 2).flatmap(
        lambda kind: st.lists(TEXT, min_size=1, max_size=4).map(
            lambda lines: reply((250, 451, 554)[kind], ("2.0.0", "4.3.0", "5.7.1")[kind], *lines)
        )
    )
)
def test_what_our_server_says_is_what_our_client_reads(said):
    # The wire does not keep spaces at the very end.
    (heard,) = read(said.octets)
    assert heard.code == said.code
    assert heard.enhanced == said.enhanced
    assert [line.rstrip(" ") for line in heard.lines] == [line.rstrip(" ") for line in said.lines]
