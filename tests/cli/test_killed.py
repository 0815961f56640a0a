"""Exports and imports that are killed, and run again: nothing is missing, nothing comes twice"""

from __future__ import annotations

import signal
import time

import pytest

MESSAGES = 2500


def killOnce(process, isUnderWay) -> None:
    """Kill it as soon as it is under way, which it must be before it ends."""
    deadline = time.monotonic() + 30
    while not isUnderWay():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGKILL


def write(path) -> str:
    lines = "From a@b.org Sat Jan 31 12:00:05 2026\nSubject: {0}\n\n{0}\n\n"
    path.write_text("".join(map(lines.format, range(MESSAGES))))
    return str(path)


def test_anImportThatIsKilledLosesNothingAndDoublesNothing(shell, tmp_path):
    source = write(tmp_path / "in")

    def isUnderWay() -> bool:
        return shell.sql("SELECT COUNT(*) FROM messages")[0][0] > 0

    killOnce(shell.process("import", source, "--to", "bob@example.com"), isUnderWay)
    [(before,)] = shell.sql("SELECT COUNT(*) FROM messages")
    assert 0 < before < MESSAGES
    [told] = shell.rows("import", source, "--to", "bob@example.com")
    assert told["imported"] == MESSAGES - before
    [(after, different)] = shell.sql("SELECT COUNT(*), COUNT(DISTINCT subject) FROM messages")
    assert (after, different) == (MESSAGES, MESSAGES)


@pytest.mark.parametrize("format", ["mbox", "maildir", "eml"])
def test_anExportThatIsKilledIsWholeAtTheEnd(shell, tmp_path, format):
    shell.ok("import", write(tmp_path / "in"), "--to", "bob@example.com")
    path = tmp_path / "out" / "box"
    path.parent.mkdir()

    def isUnderWay() -> bool:
        if format == "mbox":
            return any(part.stat().st_size > 20_000 for part in path.parent.glob(".*.part"))
        return len(list(path.rglob("*.eml" if format == "eml" else "*.smtpstore"))) > 100

    killOnce(shell.process("export", str(path), "--format", format), isUnderWay)
    [told] = shell.rows("export", str(path), "--format", format)
    assert 0 < told["exported"] < MESSAGES
    before = shell.sql("SELECT id, sha256 FROM messages ORDER BY id")
    shell.path.unlink()
    [told] = shell.rows("import", str(path), "--to", "bob@example.com")
    assert told["imported"] == MESSAGES
    assert shell.sql("SELECT id, sha256 FROM messages ORDER BY id") == before
