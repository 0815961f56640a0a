"""Mailboxes as files: what is written comes back, octet by octet, however it is cut."""

from __future__ import annotations

import mailbox
import os
import tracemalloc
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsrv.formats.eml import EmlReader, EmlWriter
from mailsrv.formats.entry import Envelope, NotOurs, idIn, spooled
from mailsrv.formats.maildir import MaildirReader, MaildirWriter, isMaildir
from mailsrv.formats.mbox import MboxReader, MboxWriter, fromLine, parseFromLine
from mailsrv.formats.quoting import quoted, unquoted

NOON = datetime(2026, 1, 31, 12, 0, 5, 7, UTC)
MIB = 1 << 20

NASTY = [
    b"",
    b"\n",
    b"\r\n",
    b"\n\n\n",
    b"x",
    b"Subject: a\r\n\r\nFrom the start\r\n>From me\r\n>>From\r\nFrom",
    b"From a Thu Jan  1 12:00:00 2026 01J00000000000000000000000\n",
    b"From \nFrom \n",
    b">From \r\n>>>From x",
    b"a\rFrom b 12:00\r\n\rFrom c 12:00",
    b"nul \0 and \xff\xfe\r\n.\r\n",
    b"no end of line\r",
    b">",
    b">>>>",
    b"\n>Fro",
    b"\r\n\r\nFrom x 12:00:00\r\n",
    b"long " * 40_000 + b"\nFrom 12:00 " * 9000,
    b">" * 150_000 + b"From x",
]


def identify(number: int) -> str:
    return f"01J{number:023d}"


def envelope(number: int, **fields) -> Envelope:
    return Envelope(**{"id": identify(number), "receivedAt": NOON, "sender": "a@b.org", **fields})


def octetsOf(reader) -> list[bytes]:
    found = []
    for entry in reader.entries():
        found.append(b"".join(entry.content.pieces(1000)))
        assert entry.content.size == len(found[-1])
        entry.content.close()
    return found


def writeMbox(path: Path, messages, cut=None) -> None:
    writer = MboxWriter(path, path.with_suffix(".part"))
    for number, octets in enumerate(messages):
        pieces = (
            [octets] if cut is None else [octets[i : i + cut] for i in range(0, len(octets), cut)]
        )
        writer.write(envelope(number), pieces)
    writer.finish()
    writer.close()


# Quoting


@given(
    st.text(alphabet=">From \n\rx", max_size=60).map(str.encode),
    st.lists(st.integers(0, 60), max_size=8),
)
@settings(max_examples=400, deadline=None)
def test_quoting_is_undone_wherever_the_octets_are_cut(octets: bytes, cuts: list[int]) -> None:
    def cut(whole: bytes) -> list[bytes]:
        places = [0, *sorted(cuts), len(whole)]
        return [whole[a:b] for a, b in pairwise(places)]

    wire = b"".join(quoted(cut(octets)))
    assert wire == b"".join(quoted([octets]))
    assert not any(line.startswith(b"From ") for line in wire.split(b"\n"))
    assert b"".join(unquoted(cut(wire))) == octets


def test_quoting_is_that_of_mboxrd() -> None:
    assert b"".join(quoted([b"From a\n>From b\n >From c\nFrome\n"])) == (
        b">From a\n>>From b\n >From c\nFrome\n"
    )
    # What an mboxo did not quote is left as it is.
    assert b"".join(unquoted([b">From a\n> From\n"])) == b"From a\n> From\n"


# mbox


@pytest.mark.parametrize("cut", [None, 1, 7])
def test_an_mbox_gives_back_the_octets_of_every_message(tmp_path: Path, cut: int | None) -> None:
    messages = NASTY if cut is None else NASTY[:-2]
    writeMbox(tmp_path / "all", messages, cut)
    assert octetsOf(MboxReader(tmp_path / "all")) == messages


@given(st.lists(st.binary(max_size=30) | st.sampled_from(NASTY[:-2]), max_size=5))
@settings(max_examples=60, deadline=None)
def test_any_messages_in_a_row_come_back(tmp_path_factory, messages: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("mbox") / "all"
    writeMbox(path, messages)
    assert octetsOf(MboxReader(path)) == messages


def test_another_reader_of_mboxes_finds_the_same_messages(tmp_path: Path) -> None:
    octets = [b"Subject: %d\n\nFrom here\nto there\n" % number for number in range(3)]
    writeMbox(tmp_path / "all", octets)
    box = mailbox.mbox(tmp_path / "all")
    assert [each["Subject"] for each in box] == ["0", "1", "2"]
    assert box[0].get_from().startswith("a@b.org Sat Jan 31 12:00:05 2026")
    box.close()


def test_the_from_line_carries_sender_time_and_id(tmp_path: Path) -> None:
    line = fromLine(envelope(7))
    assert line == b"From a@b.org Sat Jan 31 12:00:05 2026 " + identify(7).encode() + b"\n"
    assert parseFromLine(line) == envelope(7, receivedAt=NOON.replace(microsecond=0))


@pytest.mark.parametrize("sender", ["", '"a b"@x.org', "zoë@x.org", "a Mon Jan  1 00:00:00 1999@x"])
def test_senders_come_back(sender: str) -> None:
    assert parseFromLine(fromLine(envelope(1, sender=sender))).sender == sender


def test_a_sender_cannot_write_a_line_of_its_own() -> None:
    assert fromLine(envelope(1, sender="a\nFrom b")).count(b"\n") == 1
    assert len(fromLine(envelope(1, sender="x" * 100_000))) < 1100


@pytest.mark.parametrize(
    ("line", "hour"),
    [
        (b"From a@b.org Sat Jan 31 12:00:05 2026\n", 12),
        (b"From a@b.org  Sat Jan 31 12:00:05 2026\r\n", 12),
        (b"From a@b.org Sat Jan 31 12:00 2026\n", 12),
        (b"From a@b.org Sat Jan 31 12:00:05 +0200 2026\n", 10),
        (b"From a@b.org Sat Jan 31 12:00:05 -0130 2026\n", 13),
        (b"From a@b.org Sat Jan 31 12:00:05 CET 2026\n", 12),
        (b"From a@b.org Sat Jan 31 12:00:05 2026 +0000\n", 12),
    ],
)
def test_from_lines_of_others_are_understood(line: bytes, hour: int) -> None:
    found = parseFromLine(line)
    assert (found.id, found.sender) == ("", "a@b.org")
    assert found.receivedAt is not None
    assert (found.receivedAt.day, found.receivedAt.hour) == (31, hour)


@pytest.mark.parametrize(
    "line",
    [
        b"From a@b.org yesterday 12:00\n",
        b"From a@b.org Sat Jan 32 12:00:05 2026\n",
        b"From a@b.org Sat Jan 31 12:00:05 0026\n",
        b"From a@b.org Mon Jan  1 00:00:00 +9999 0001\n",
        b"From " + b" " * 60_000 + b"12:00\n",
        b"From \xff\xff 1:00",
    ],
)
def test_a_from_line_without_sense_tells_nothing(line: bytes) -> None:
    assert parseFromLine(line) == Envelope()


def test_an_mbox_of_another_program_loses_one_blank_line_a_message(tmp_path: Path) -> None:
    for newline in (b"\n", b"\r\n"):
        lines = [
            b"From a@b.org Sat Jan 31 12:00:05 2026", b"Subject: a", b"", b"One", b"From us, two",
            b"", b"From c@d.org Sat Jan 31 13:00:05 2026", b"Subject: b", b"", b"Three", b"", b"",
        ]  # fmt: skip
        path = tmp_path / "all"
        path.write_bytes(newline.join(lines))
        assert octetsOf(MboxReader(path)) == [
            newline.join([b"Subject: a", b"", b"One", b"From us, two", b""]),
            newline.join([b"Subject: b", b"", b"Three", b""]),
        ]


def test_an_mbox_with_mixed_line_ends_loses_no_more_than_a_line_feed(tmp_path: Path) -> None:
    (tmp_path / "all").write_bytes(b"From a Sat Jan 31 12:00:05 2026\r\nx\n")
    assert octetsOf(MboxReader(tmp_path / "all")) == [b"x"]


def test_the_steps_of_an_mbox_come_to_its_length(tmp_path: Path) -> None:
    writeMbox(tmp_path / "all", NASTY)
    reader = MboxReader(tmp_path / "all")
    steps = 0
    for entry in reader.entries():
        steps += entry.step
        entry.content.close()
    assert steps == reader.length == (tmp_path / "all").stat().st_size


def test_an_mbox_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    path, part = tmp_path / "all", tmp_path / "part"
    writer = MboxWriter(path, part)
    writer.write(envelope(1), [b"x"])
    writer.flush()
    assert not path.exists()
    writer.finish()
    writer.close()
    assert octetsOf(MboxReader(path)) == [b"x"]
    assert not part.exists()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("size", [10, 3 * MIB])
def test_an_mbox_cut_off_anywhere_is_gone_on_with(tmp_path: Path, size: int) -> None:
    messages = [b"one\r\n", b"From two\n" + b"y" * size, b"three"]
    whole, path, part = tmp_path / "whole", tmp_path / "all", tmp_path / "part"
    writeMbox(whole, messages)
    octets = whole.read_bytes()
    places = range(len(octets) + 1) if size < 100 else [100, 2 * MIB, len(octets) - 3]
    for place in places:
        part.write_bytes(octets[:place])
        writer = MboxWriter(path, part)
        for number, message in enumerate(messages):
            if identify(number) > writer.after:
                assert not writer.has(envelope(number))
                writer.write(envelope(number), [message])
        writer.finish()
        writer.close()
        assert path.read_bytes() == octets


def test_two_do_not_write_the_same_mbox(tmp_path: Path) -> None:
    first = MboxWriter(tmp_path / "all", tmp_path / "part")
    with pytest.raises(NotOurs, match="is being written by another export"):
        MboxWriter(tmp_path / "all", tmp_path / "part")
    first.close()
    MboxWriter(tmp_path / "all", tmp_path / "part").close()


def test_a_message_that_cannot_be_read_leaves_nothing_in_the_mbox(tmp_path: Path) -> None:
    def broken():
        yield b"x" * 100
        raise OSError("gone")

    writer = MboxWriter(tmp_path / "all", tmp_path / "part")
    writer.write(envelope(1), [b"one"])
    with pytest.raises(OSError, match="gone"):
        writer.write(envelope(2), broken())
    writer.write(envelope(3), [b"three"])
    writer.finish()
    writer.close()
    assert octetsOf(MboxReader(tmp_path / "all")) == [b"one", b"three"]


def test_fifty_mebibytes_pass_in_bounded_memory(tmp_path: Path) -> None:
    line = b"From a long line" + b" of octets" * 80 + b"\r\n"
    pieces = [line * (MIB // len(line))] * 50
    tracemalloc.start()
    try:
        writer = MboxWriter(tmp_path / "all", tmp_path / "part")
        writer.write(envelope(1), pieces)
        writer.finish()
        writer.close()
        [entry] = MboxReader(tmp_path / "all").entries()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert entry.content.size == sum(map(len, pieces))
    assert next(entry.content.pieces(MIB)) == b"".join(pieces[:2])[:MIB]
    entry.content.close()
    assert peak < 10 * MIB


# Folders


@pytest.mark.parametrize(
    ("Writer", "Reader"), [(MaildirWriter, MaildirReader), (EmlWriter, EmlReader)]
)
def test_a_folder_gives_back_octets_ids_and_times(tmp_path: Path, Writer, Reader) -> None:
    path = tmp_path / "box"
    writer = Writer(path)
    for number, octets in enumerate(NASTY):
        writer.write(envelope(number), [octets[:3], octets[3:]])
    writer.finish()
    writer.close()
    reader = Reader(path)
    entries = sorted(reader.entries(), key=lambda entry: entry.envelope.id)
    assert [entry.envelope for entry in entries] == [
        envelope(number, sender=None) for number in range(len(NASTY))
    ]
    assert [b"".join(entry.content.pieces(MIB)) for entry in entries] == NASTY
    assert sum(entry.step for entry in entries) == reader.length == len(NASTY)
    for entry in entries:
        entry.content.close()
    again = Writer(path)
    assert all(again.has(envelope(number)) for number in range(len(NASTY)))
    assert not again.has(envelope(99))


@pytest.mark.parametrize("Writer", [MaildirWriter, EmlWriter])
def test_a_file_has_its_name_only_when_it_is_on_the_disk(
    tmp_path: Path, Writer, monkeypatch
) -> None:
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: (synced.append(number), fsync(number)))
    writer = Writer(tmp_path / "box")
    writer.write(envelope(1), [b"x"])
    names = {path.name for path in (tmp_path / "box").rglob("*") if path.is_file()}
    assert not writer.has(envelope(1))
    writer.flush()
    assert len(synced) == 2  # the file, then the folder with its name
    assert writer.has(envelope(1))
    # One that was cut off before its name is written anew.
    cut = Writer(tmp_path / "box")
    cut.write(envelope(2), [b"half"])
    again = Writer(tmp_path / "box")
    assert not again.has(envelope(2))
    again.write(envelope(2), [b"whole"])
    again.finish()
    assert again.has(envelope(2))
    assert len(names) == 1


def test_a_maildir_is_added_to_and_what_was_read_is_not_written_again(tmp_path: Path) -> None:
    mailbox.Maildir(tmp_path / "box", create=True).add(b"Subject: theirs\n\n")
    writer = MaildirWriter(tmp_path / "box")
    writer.write(envelope(1), [b"ours"])
    writer.finish()
    [ours] = (tmp_path / "box/new").glob("*.smtpstore")
    ours.rename(tmp_path / "box/cur" / f"{ours.name}:2,S")
    assert MaildirWriter(tmp_path / "box").has(envelope(1))
    (tmp_path / "box/new/.hidden").write_bytes(b"x")
    (tmp_path / "box/new/folder").mkdir()
    assert sorted(octetsOf(MaildirReader(tmp_path / "box"))) == [b"Subject: theirs\n\n", b"ours"]


@pytest.mark.parametrize("Writer", [MaildirWriter, EmlWriter])
def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path, Writer) -> None:
    (tmp_path / "letter.txt").write_text("x")
    with pytest.raises(NotOurs, match="other things in it; give a new or an empty folder"):
        Writer(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    MaildirWriter(tmp_path)
    assert isMaildir(tmp_path)


def test_one_file_is_one_message(tmp_path: Path) -> None:
    path = tmp_path / "letter.eml"
    path.write_bytes(b"x")
    assert octetsOf(EmlReader(path)) == [b"x"]
    (tmp_path / "other.txt").write_bytes(b"y")
    assert octetsOf(EmlReader(tmp_path)) == [b"x"]


@pytest.mark.parametrize(
    ("name", "id"),
    [
        (f"{identify(1)}.eml", identify(1)),
        (f"1700.{identify(1)}.smtpstore:2,S", identify(1)),
        (f"1700.{identify(1)}.host", ""),
        ("01JU0000000000000000000000.eml", ""),
        ("letter.eml", ""),
    ],
)
def test_the_id_is_that_of_names_we_gave(name: str, id: str) -> None:
    assert idIn(name) == id


def test_a_time_no_calendar_has_is_not_known(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(b"x")
    fstat = os.fstat

    class Far:
        st_mtime_ns = 10**21

    monkeypatch.setattr("mailsrv.formats.entry.os.fstat", lambda number: Far)
    [entry] = EmlReader(path).entries()
    monkeypatch.setattr("mailsrv.formats.entry.os.fstat", fstat)
    assert entry.envelope.receivedAt is None
    entry.content.close()


def test_a_content_can_be_read_from_anywhere_and_again() -> None:
    content = spooled([b"abc", b"def"])
    pieces = content.pieces(2, 1)
    assert (next(pieces), content.head(3), next(pieces)) == (b"bc", b"abc", b"de")
    assert content.sha256.startswith("bef57ec7f53a6d40")
    content.close()


def test_what_cannot_be_read_holds_no_file(tmp_path: Path) -> None:
    def broken():
        yield b"x"
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        spooled(broken())


def test_a_file_that_cannot_be_read_to_its_end_is_closed(tmp_path: Path, monkeypatch) -> None:
    def broken(file):
        raise OSError("gone")

    (tmp_path / "a.eml").write_bytes(b"x")
    monkeypatch.setattr("mailsrv.formats.entry.FileContent", broken)
    with pytest.raises(OSError, match="gone"):  # and no ResourceWarning
        list(EmlReader(tmp_path / "a.eml").entries())
