"""Whole mailboxes on MariaDB: the same SQL, and the same octets"""

from __future__ import annotations

from cli.stored import NASTY, put
from mailsrv.smtp.message import BytesContent, Recipient
from mariadb import Database

BOB = Recipient("bob@example.com", 1)


def test_aMailboxGoesOverFromSqliteAndBackAndIsPurged(shell, database: Database, tmp_path):
    for user in ("bob@example.com", "ann@example.com"):
        shell.ok("user", "add", user)
    for number, octets in enumerate(NASTY):
        put(shell, number, recipients=(BOB,), content=BytesContent(octets))
    before = shell.sql("SELECT id, sha256, size, sender FROM messages ORDER BY id")
    shell.ok("export", str(tmp_path / "sqlite.mbox"))

    shell.environment["SMTPSTORE_DB"] = database.url
    shell.ok("init")
    for user in ("bob@example.com", "ann@example.com"):
        shell.ok("user", "add", user)
    source = str(tmp_path / "sqlite.mbox")
    [told] = shell.rows("import", source, "--to", "bob@example.com")
    assert told["imported"] == len(NASTY)
    assert shell.rows("import", source, "--to", "bob@example.com")[0]["skipped"] == len(NASTY)
    assert shell.rows("import", source, "--to", "ann@example.com")[0]["imported"] == len(NASTY)
    for box in ([], ["--to", "ann@example.com"]):
        shell.ok("export", str(tmp_path / f"mysql{len(box)}"), *box)
        assert (tmp_path / f"mysql{len(box)}").read_bytes() == (
            tmp_path / "sqlite.mbox"
        ).read_bytes()
    rows = shell.rows("message", "list")
    assert sorted((row["id"], row["sha256"], row["size"], row["sender"]) for row in rows) == before

    [told] = shell.rows("message", "purge", "--older-than", "0", "--to", "bob@example.com")
    assert told == {"purged": len(NASTY), "deleted": 0, "waiting": 0}
    shell.ok("message", "delete", rows[0]["id"])
    [told] = shell.rows("message", "purge", "--older-than", "0")
    assert told == {"purged": len(NASTY) - 1, "deleted": len(NASTY) - 1, "waiting": 0}
    assert shell.rows("message", "list") == []
