"""smtpstore init, and databases that are not there or not ours"""

from __future__ import annotations

import sqlite3
import stat

import pytest


def test_initMakesTheDatabaseForItsOwnerAlone(shell):
    shell.path.unlink()
    assert "ran 0001_users" in shell.ok("init")
    assert stat.S_IMODE(shell.path.stat().st_mode) == 0o600
    assert shell.rows("user", "list") == []


def test_initAgainChangesNothing(shell):
    shell.ok("user", "add", "bob@example.com")
    assert "up to date" in shell.ok("init")
    assert shell.rows("init") == []
    assert len(shell.rows("user", "list")) == 1


def test_initTellsProgramsWhatItRan(shell):
    shell.path.unlink()
    assert shell.rows("init")[0] == {"name": "0001_users"}


@pytest.mark.parametrize(
    "command", ["user list", "user add a@x.org", "alias list", "group list", "message list"]
)
def test_noOtherCommandMakesADatabase(shell, command):
    shell.path.unlink()
    line = shell.complaint(*command.split())
    assert str(shell.path) in line
    assert "smtpstore init" in line
    assert not shell.path.exists()


def test_tablesThatAreMissingAreSaidSo(shell):
    shell.path.write_bytes(b"")
    assert "smtpstore init" in shell.complaint("user", "list")


def test_aFileThatIsNoDatabaseIsSaidSo(shell):
    shell.path.write_bytes(b"x" * 5000)
    assert "not a database" in shell.complaint("user", "list")
    assert "not a database" in shell.complaint("init")


def test_aFolderThatIsNotThereIsSaidSo(shell):
    line = shell.complaint("init", "--db", f"sqlite:{shell.path.parent}/none/mail.db")
    assert "there is no folder" in line
    assert "make it first" in line


def test_aUrlThatIsNoneIsSaidSo_withoutItsPassword(shell):
    line = shell.complaint("user", "list", "--db", "odd://bob:secret@host/mail")
    assert "sqlite:PATH" in line
    assert "secret" not in line


def test_theOptionWinsOverTheEnvironment_beforeOrBehindTheCommand(shell):
    other = f"sqlite:{shell.path.parent}/other.db"
    shell.ok("init", "--db", other)
    shell.ok("--db", other, "user", "add", "bob@example.com")
    assert len(shell.rows("user", "list", "--db", other)) == 1
    assert shell.rows("user", "list") == []


def test_aDatabaseHeldByAnotherIsSaidSo(shell, monkeypatch):
    monkeypatch.setattr("mailsrv.store.dialect.SqliteDialect.__init__.__defaults__", (0.05,))
    connection = sqlite3.connect(shell.path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        assert "locked" in shell.complaint("user", "add", "bob@example.com", status=75)
    finally:
        connection.close()
