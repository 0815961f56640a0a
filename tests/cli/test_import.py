"""smtpstore import: foreign mailboxes, envelopes, and runs that are cut off"""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest

from cli.stored import put
from mailsrv.smtp.message import BytesContent, Recipient

pytestmark = pytest.mark.databases

FROM_LINE = b"From ann@else.org Sat Jan 31 12:00:05 2026\n"
LETTER = b"From: Ann <ann@x.org>\r\nSubject: Hello\r\nDate: Fri, 30 Jan 2026 09:00:00 +0000\r\n\r\nHi\r\n"
BOB = ("--to", "bob@example.com")


@pytest.fixture
def bob(shell):
    shell.ok("user", "add", "Bob@example.com")
    return shell


def write(path, octets: bytes = LETTER, time: float = 1_770_000_000.25):
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(octets)
    os.utime(path, (time, time))
    return str(path)


def mbox(tmp_path, *messages: bytes) -> str:
    return write(tmp_path / "mbox", b"".join(FROM_LINE + each + b"\n" for each in messages))


def imported(shell, *arguments: str) -> tuple[int, int]:
    [told] = shell.rows("import", *arguments)
    return told["imported"], told["skipped"]


def test_anMboxIsReadIntoTheUsersMailbox(bob, tmp_path):
    assert imported(bob, mbox(tmp_path, LETTER, b"second\n"), *BOB) == (2, 0)
    rows = bob.rows("message", "list", "--to", "bob@example.com")
    assert len(rows) == 2
    [row] = [row for row in rows if row["subject"] == "Hello"]
    assert (row["sender"], row["received_at"]) == ("ann@else.org", "2026-01-31T12:00:05Z")
    assert (row["date"], row["protocol"]) == ("2026-01-30T09:00:00Z", "import")
    [shown] = bob.rows("message", "show", row["id"])
    assert shown["body"] == "Hi\n"
    assert shown["recipients"] == [
        {"address": "Bob@example.com", "user_id": 1, "parameters": ""}
    ]  # fmt: skip
    assert bob.sql("SELECT address FROM mailbox") == [("Bob@example.com",)] * 2
    assert bob.run("message", "raw", row["id"]).stdout_bytes == LETTER


def test_aMaildirIsReadWithTheTimesOfItsFiles(bob, tmp_path):
    for folder in ("new", "cur", "tmp"):
        write(tmp_path / "box" / folder / f"17.{folder}.host", folder.encode())
    assert imported(bob, str(tmp_path / "box"), *BOB) == (2, 0)
    rows = bob.rows("message", "list")
    assert {row["received_at"] for row in rows} == {"2026-02-02T02:40:00.250000Z"}


@pytest.mark.parametrize(
    ("octets", "sender"),
    [
        (b"Return-Path: <ann@else.org>\r\nFrom: <a@b.org>\r\n\r\n", "ann@else.org"),
        (b"Return-Path: <>\nFrom: <a@b.org>\n\n", ""),
        (b"To: x\r\nFROM: Ann\r\n <a@b.org>\r\n\r\n", "a@b.org"),
        (b"From: nobody\r\n\r\n", ""),
        (b"Subject: x\r\n\r\nFrom: a@b.org\r\n", ""),
    ],
)
def test_theSenderIsThatOfReturnPathOrFrom(bob, tmp_path, octets, sender):
    bob.ok("import", write(tmp_path / "a.eml", octets), *BOB)
    assert bob.rows("message", "list")[0]["sender"] == sender


def test_aSenderInTheFromLineThatIsNoAddressIsNobody(bob, tmp_path):
    write(tmp_path / "m", b"From somebody Sat Jan 31 12:00:05 2026\nFrom: <a@b.org>\n\n\n")
    bob.ok("import", str(tmp_path / "m"), *BOB)
    assert bob.rows("message", "list")[0]["sender"] == ""


@pytest.mark.parametrize("name", ["a.eml", "letter.txt", "folder"])
def test_whatItIsIsFoundOut(bob, tmp_path, name):
    write(tmp_path / "folder" / "A.EML")
    write(tmp_path / "folder" / "other.txt", b"other")
    if name != "folder":
        write(tmp_path / name)
    assert imported(bob, str(tmp_path / name), *BOB) == (1, 0)


def test_aMessageThatBeginsLikeAnMboxIsAMessageByItsName(bob, tmp_path):
    assert imported(bob, write(tmp_path / "a.eml", FROM_LINE + b"\n\n"), *BOB) == (1, 0)
    assert bob.rows("message", "list")[0]["size"] == len(FROM_LINE) + 2


@pytest.mark.parametrize("kind", ["mbox", "maildir", "eml"])
def test_againNothingComesTwice(bob, tmp_path, kind):
    if kind == "mbox":
        source = mbox(tmp_path, LETTER, b"b", b"b", b"c")
    else:
        folder = tmp_path / "box" / ("new" if kind == "maildir" else "")
        (tmp_path / "box/cur").mkdir(parents=True) if kind == "maildir" else None
        for name, octets in (("1.eml", LETTER), ("2.eml", b"b"), ("3.eml", b"c")):
            write(folder / name, octets)
        source = str(tmp_path / "box")
    first, skipped = imported(bob, source, *BOB)
    assert (first, skipped) == (3, 1 if kind == "mbox" else 0)  # the same octets, the same date
    before = bob.sql("SELECT * FROM messages ORDER BY id")
    assert imported(bob, source, *BOB) == (0, first + skipped)
    assert bob.sql("SELECT * FROM messages ORDER BY id") == before


def test_whatHasNoDateAtAllComesOnce(bob, tmp_path):
    write(tmp_path / "m", b"From x sometime 12:00\nSubject: a\n\n\n")
    assert imported(bob, str(tmp_path / "m"), *BOB) == (1, 0)
    assert imported(bob, str(tmp_path / "m"), *BOB) == (0, 1)
    assert bob.rows("message", "list")[0]["received_at"] > "2026"


def test_withoutADateInTheFromLineTheDateFieldCounts(bob, tmp_path):
    write(tmp_path / "m", b"From x sometime 12:00\n" + LETTER + b"\n")
    bob.ok("import", str(tmp_path / "m"), *BOB)
    assert bob.rows("message", "list")[0]["received_at"] == "2026-01-30T09:00:00Z"


def test_anImportThatWasCutOffIsGoneOnWith(bob, tmp_path, monkeypatch):
    monkeypatch.setattr("mailsrv.cli.importing._BATCH", 2)
    for number in range(7):
        write(tmp_path / "box" / f"{number}.eml", b"%d" % number)
    source = str(tmp_path / "box")
    batches = []

    def failing(txn, messages):
        batches.append(messages)
        if len(batches) > 2:
            raise OSError(5, "Input/output error")
        add(txn, messages)

    from mailsrv.store.queries.mailboxes import addMessagesTxn as add

    with monkeypatch.context() as patch:
        patch.setattr("mailsrv.cli.importing.addMessagesTxn", failing)
        assert "Input/output error" in bob.complaint("import", source, *BOB)
    assert bob.sql("SELECT COUNT(*) FROM messages") == [(4,)]
    assert imported(bob, source, *BOB) == (3, 4)


def test_aBatchHasABoundInOctetsToo(bob, tmp_path, monkeypatch):
    monkeypatch.setattr("mailsrv.cli.importing._BATCH_OCTETS", 10)
    sizes = []
    from mailsrv.store.queries.mailboxes import addMessagesTxn as add

    def noting(txn, messages):
        sizes.append(len(messages))
        add(txn, messages)

    monkeypatch.setattr("mailsrv.cli.importing.addMessagesTxn", noting)
    bob.ok("import", mbox(tmp_path, b"1" * 6, b"2" * 6, b"3" * 30, b"4"), *BOB)
    assert sizes == [2, 1, 1]


def test_whatIsStoredForAnotherIsHeldByBoth_notCopied(bob, tmp_path):
    id = put(bob, 1, recipients=(Recipient("Ann@example.com", 2),))
    bob.ok("export", str(tmp_path / "all"))
    assert imported(bob, str(tmp_path / "all"), *BOB) == (1, 0)
    assert imported(bob, str(tmp_path / "all"), *BOB) == (0, 1)
    [row] = bob.rows("message", "list")
    assert row["id"] == id
    [shown] = bob.rows("message", "show", id)
    assert [each["user_id"] for each in shown["recipients"]] == [2, 1]


def test_anIdThatOtherOctetsHaveIsNotTakenOver(bob, tmp_path):
    id = put(bob, 1, content=BytesContent(b"mine"))
    for number, octets in enumerate((b"theirs", b"others")):
        write(tmp_path / str(number) / f"{id}.eml", octets)
        assert imported(bob, str(tmp_path / str(number)), *BOB) == (1, 0)
    assert bob.run("message", "raw", id, "--no-trace").stdout_bytes == b"mine"
    assert len(bob.rows("message", "list", *BOB)) == 3
    # Nor within one run.
    line = b"From a@b.c Sat Jan 31 12:00:05 2026 01JZZZ00000000000000000000\n"
    write(tmp_path / "m", line + b"one\n" + line + b"two\n")
    assert imported(bob, str(tmp_path / "m"), *BOB) == (2, 0)


def test_withoutAnyUserEveryAddressHasAMailbox(shell, tmp_path):
    assert imported(shell, mbox(tmp_path, LETTER), "--to", "any@where.org") == (1, 0)
    assert shell.sql("SELECT address, user_id FROM recipients") == [("any@where.org", None)]


@pytest.mark.databases("sqlite")
def test_importMakesTheDatabaseWhereThereIsNone(shell, tmp_path):
    shell.path.unlink()
    assert imported(shell, mbox(tmp_path, LETTER), *BOB) == (1, 0)
    assert len(shell.rows("message", "list")) == 1


@pytest.mark.parametrize(
    ("source", "to", "said"),
    [
        ("none.mbox", "bob@example.com", "none.mbox: No such file or directory"),
        ("photo.png", "bob@example.com", "photo.png is neither an mbox nor a message"),
        ("empty", "bob@example.com", "empty is neither a Maildir nor a folder with .eml files"),
        ("mbox", "ann@example.com", "there is no user ann@example.com; add it first"),
        ("mbox", "old@example.com", "there is no user old@example.com"),
        ("mbox", "bob", "local-part@domain"),
    ],
)
def test_mistakesOfNewcomersEndInOneLine(bob, tmp_path, monkeypatch, source, to, said):
    put(bob, recipients=(Recipient("old@example.com"),))
    monkeypatch.chdir(tmp_path)
    mbox(tmp_path, LETTER)
    write(tmp_path / "photo.png", b"\x89PNG\r\n")
    (tmp_path / "empty").mkdir()
    assert said in bob.complaint("import", source, "--to", to)
    assert bob.sql("SELECT COUNT(*) FROM messages") == [(1,)]


def test_nothingIsQueuedAndTheApplicationIsToldOfNothing(bob, tmp_path):
    bob.ok("import", mbox(tmp_path, LETTER), *BOB)
    assert bob.sql("SELECT (SELECT COUNT(*) FROM queue) + (SELECT COUNT(*) FROM events)") == [(0,)]


def test_idsAreInTheOrderOfTheirTimes(bob, tmp_path):
    for number in range(5):
        time = datetime(2020 + number, 1, 1, tzinfo=UTC).timestamp()
        write(tmp_path / "box" / f"{number}.eml", b"%d" % number, time)
    write(tmp_path / "box" / "long-ago.eml", b"x", -1e9)
    bob.ok("import", str(tmp_path / "box"), *BOB)
    times = [row["received_at"] for row in bob.rows("message", "list")]
    assert times[-1].startswith("1938")
    assert times == sorted(times, reverse=True)


def test_aFileThatCannotBeReadIsNamed(bob, tmp_path, monkeypatch):
    write(tmp_path / "box" / "a.eml")

    def broken(file):
        raise OSError("odd")

    monkeypatch.setattr("mailsrv.formats.entry.FileContent", broken)
    assert "box: odd" in bob.complaint("import", str(tmp_path / "box"), *BOB)


def test_whatWasOpenedWhenReadingFailsIsClosed(bob, tmp_path, monkeypatch):
    import mailsrv.formats.eml as eml

    for name in ("a", "b"):
        write(tmp_path / "box" / f"{name}.eml")
    opened = []

    def failing(path):
        if opened:
            raise PermissionError(13, "Permission denied", str(path))
        opened.append(entryOf(path))
        return opened[0]

    entryOf = eml.entryOf
    monkeypatch.setattr(eml, "entryOf", failing)
    assert "Permission denied" in bob.complaint("import", str(tmp_path / "box"), *BOB)
    with pytest.raises(ValueError, match="closed"):
        opened[0].content.head(1)
