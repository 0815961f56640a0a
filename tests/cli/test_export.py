"""smtpstore export, and import again: the same octets, however often it is cut off"""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

from cli.stored import NASTY, OCTETS, TRACE, put
from mailsrv.smtp.message import BytesContent, Recipient
from mailsrv.store.queries.messages import contentTxn

pytestmark = pytest.mark.databases

FORMATS = ("mbox", "maildir", "eml")


def fill(shell, count: int = 3) -> list[str]:
    shell.ok("user", "add", "bob@example.com")
    to = (Recipient("bob@example.com", 1),)
    return [put(shell, number, recipients=to) for number in range(count)]


def files(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file())


@pytest.mark.parametrize("format", FORMATS)
def test_exportAndImportAgainGiveTheSame(shell, tmp_path, format):
    shell.ok("user", "add", "bob@example.com")
    to = (Recipient("bob@example.com", 1),)
    stored = [
        put(shell, number, recipients=to, content=BytesContent(octets), sender="")
        for number, octets in enumerate(NASTY)
    ]
    [told] = shell.rows("export", str(tmp_path / "box"), "--format", format)
    assert told == {
        "exported": len(NASTY), "skipped": 0, "octets": sum(map(len, NASTY))
    }  # fmt: skip
    before = shell.sql("SELECT id, sha256, size, sender FROM messages ORDER BY id")
    shell.sql("DELETE FROM messages")
    [told] = shell.rows("import", str(tmp_path / "box"), "--to", "bob@example.com")
    assert told["imported"] == len(NASTY)
    after = shell.sql("SELECT id, sha256, size, sender FROM messages ORDER BY id")
    assert after == before
    for id, octets in zip(stored, NASTY, strict=True):
        assert shell.run("message", "raw", id).stdout_bytes == octets


@pytest.mark.parametrize("format", FORMATS)
def test_theTimeOfReceiptComesBack(shell, tmp_path, format):
    fill(shell, 1)
    before = shell.rows("message", "list")[0]["received_at"]
    shell.ok("export", str(tmp_path / "box"), "--format", format)
    shell.sql("DELETE FROM messages")
    shell.ok("import", str(tmp_path / "box"), "--to", "bob@example.com")
    assert shell.rows("message", "list")[0]["received_at"] == before


@pytest.mark.parametrize("format", FORMATS)
def test_traceComesInFrontWhenItIsAskedFor(shell, tmp_path, format):
    fill(shell, 1)
    shell.ok("export", str(tmp_path / "box"), "--format", format, "--trace")
    [file] = [tmp_path / "box"] if format == "mbox" else files(tmp_path / "box")
    assert TRACE + OCTETS in file.read_bytes()


def test_onlyAMailboxIsExported(shell, tmp_path):
    fill(shell)
    shell.ok("user", "add", "ann@example.com")
    ann = put(
        shell, 7, recipients=(Recipient("Staff@example.com", 2), Recipient("x@example.com", 1))
    )
    sink = put(shell, 8, recipients=(Recipient("bob@example.com"),))
    assert shell.ok("export", str(tmp_path / "a"), "--to", "ANN@example.com", "--format", "eml")
    assert [path.stem for path in files(tmp_path / "a")] == [ann]
    [told] = shell.rows("export", str(tmp_path / "b"), "--to", "bob@example.com", "--format", "eml")
    assert told["exported"] == 5  # what stands under the address, and nobody holds, is his too
    assert sink in [path.stem for path in files(tmp_path / "b")]


def test_manyPagesAreExportedOnceEach(shell, tmp_path, monkeypatch):
    monkeypatch.setattr("mailsrv.cli.exporting._PAGE", 2)
    ids = fill(shell, 7)
    for box in ([], ["--to", "bob@example.com"]):
        path = tmp_path / f"box{len(box)}"
        shell.ok("export", str(path), "--format", "eml", *box)
        assert [each.stem for each in files(path)] == ids


@pytest.mark.parametrize("format", ["maildir", "eml"])
def test_aFolderThatIsThereIsAddedTo(shell, tmp_path, format):
    fill(shell, 2)
    shell.ok("export", str(tmp_path / "box"), "--format", format)
    put(shell, 9)
    assert shell.ok("export", str(tmp_path / "box"), "--format", format) == (
        f"{tmp_path}/box: 1 message exported, 2 were there\n"
    )
    assert len(files(tmp_path / "box")) == 3


def test_anMboxThatWasCutOffIsGoneOnWith(shell, tmp_path, monkeypatch):
    monkeypatch.setattr("mailsrv.cli.exporting._PAGE", 1)
    fill(shell, 4)
    path = str(tmp_path / "bob.mbox")
    shell.ok("export", path, "--to", "bob@example.com")
    whole = Path(path).read_bytes()
    Path(path).unlink()

    taken = []

    def failing(txn, id):
        taken.append(id)
        if len(taken) > 2:
            raise OSError(28, "No space left on device")
        return contentTxn(txn, id)

    with monkeypatch.context() as patch:
        patch.setattr("mailsrv.cli.exporting.contentTxn", failing)
        assert "No space left on device" in shell.complaint(
            "export", path, "--to", "bob@example.com"
        )
    assert not Path(path).exists()
    [part] = tmp_path.glob(".bob.mbox.*.part")
    assert 0 < part.stat().st_size < len(whole)
    [told] = shell.rows("export", path, "--to", "bob@example.com")
    assert told["exported"] == 3  # the last one that was there is written anew
    assert Path(path).read_bytes() == whole
    assert not part.exists()


def test_whatWasBegunForAnotherMailboxIsNotGoneOnWith(shell, tmp_path, monkeypatch):
    fill(shell)
    path = str(tmp_path / "all.mbox")
    with monkeypatch.context() as patch:
        patch.setattr("mailsrv.formats.mbox.MboxWriter.finish", lambda self: 1 / 0)
        assert shell.run("export", path, "--to", "bob@example.com").exit_code == 1
    shell.ok("export", path)
    assert Path(path).read_bytes().count(b"From ") == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["there.mbox"], "there.mbox exists already; give another name"),
        (["folder"], "folder is a folder; give a file, or --format maildir or eml"),
        (["folder", "--format", "eml"], "folder is a folder with other things in it"),
        (["folder", "--format", "maildir"], "give a new or an empty folder, or a Maildir"),
        (["there.mbox", "--format", "eml"], "there.mbox: File exists"),
        (["none/x.mbox"], "there is no folder none; make it"),
        (["x.mbox", "--to", "nobody@example.com"], "there is no mailbox nobody@example.com here"),
        (["x.mbox", "--to", "bob"], "local-part@domain"),
    ],
)
def test_mistakesEndInOneLineThatHelps(shell, tmp_path, monkeypatch, arguments, said):
    fill(shell, 1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.mbox").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/letter.txt").write_bytes(b"x")
    assert said in shell.complaint("export", *arguments)
    assert (tmp_path / "there.mbox").read_bytes() == b"x"


def test_withNothingThereAnEmptyMboxIsWritten(shell, tmp_path):
    assert "0 messages exported" in shell.ok("export", str(tmp_path / "box"))
    assert (tmp_path / "box").read_bytes() == b""
    assert "0 messages imported" in shell.ok("import", str(tmp_path / "box"), "--to", "a@b.org")


def test_onATerminalABarShowsHowFarItIs_elsewhereNothing(shell, tmp_path):
    fill(shell)
    master, slave = pty.openpty()
    process = shell.process("export", str(tmp_path / "box"), stderr=slave)
    out, _ = process.communicate(timeout=30)
    os.close(slave)
    shown = os.read(master, 65536)
    os.close(master)
    assert process.returncode == 0
    assert b"Exporting" in shown
    assert b"100%" in shown
    assert out.endswith(b"3 messages exported\n")
    assert shell.run("export", str(tmp_path / "box2")).stderr == ""


def test_fiftyMebibytesGoOutAndInAgainWithLittleMemory(shell, tmp_path):
    octets = (b"From the depth of the sea" * 40 + b"\r\n") * (50_000_000 // 1002)
    id = put(shell, content=BytesContent(octets), recipients=())
    limited = "import resource; resource.setrlimit(resource.RLIMIT_DATA, (90 << 20, 90 << 20));"

    def run(*arguments: str) -> None:
        process = shell.process(*arguments, stderr=subprocess.PIPE, prelude=limited)
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (0, b"")

    run("export", str(tmp_path / "box"))
    shell.sql("DELETE FROM messages")
    run("import", str(tmp_path / "box"), "--to", "a@b.org")
    assert shell.run("message", "raw", id, "--no-trace").stdout_bytes == octets
