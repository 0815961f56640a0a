"""smtpstore user"""

from __future__ import annotations

import os
import pty
import re

import pytest
from argon2 import PasswordHasher

pytestmark = pytest.mark.databases


def hashOf(shell) -> str | None:
    return shell.sql("SELECT password_hash FROM users")[0][0]


def test_aUserIsAddedAndListed(shell):
    shell.ok("user", "add", "Bob@example.com", "--name", "Bob Miller")
    assert shell.ok("user", "list").splitlines() == [
        "address          name        forward_to  moved_to",
        "Bob@example.com  Bob Miller",
    ]


def test_jsonHasTheColumnsNames_timesInIso8601_andNoPasswordHash(shell):
    shell.ok("user", "add", "bob@example.com", "--password-stdin", input=b"secret\n")
    [row] = shell.rows("user", "list")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", row.pop("created_at"))
    assert row == {
        "id": 1, "address": "bob@example.com", "name": "", "forward_to": None, "keep": False,
        "moved_to": None,
    }  # fmt: skip


def test_withNobodyJsonIsAnEmptyArray(shell):
    assert shell.rows("user", "list") == []
    assert shell.ok("user", "list") == ""


def test_addressesAreWrittenAsTheServerLooksThemUp(shell):
    shell.ok("user", "add", '"Bob"@BÜCHER.example')
    assert shell.rows("user", "list")[0]["address"] == "Bob@xn--bcher-kva.example"


@pytest.mark.parametrize("kind", ["user", "alias", "group"])
def test_anAddressThatIsTakenIsRefused_asOneWouldHideTheOther(shell, kind):
    shell.ok(kind, "add", "bob@example.com", *(["x@else.org"] if kind == "alias" else []))
    line = shell.complaint("user", "add", "BOB@example.com")
    assert f"{kind} already" in line
    assert f"smtpstore {kind} remove" in line


@pytest.mark.parametrize("address", ["bob", "bob@", "<bob@example.com>", "@example.com", ""])
def test_whatIsNoAddressIsSaidSo(shell, address):
    assert "local-part@domain" in shell.complaint("user", "add", address)


def test_controlsInAnErrorStayOnOneLine(shell):
    assert "\x1b" not in shell.complaint("user", "add", "bob\x1b[31m\n@x")


def test_forwardingIsSetAndTakenAway(shell):
    shell.ok("user", "add", "bob@example.com", "--forward-to", "bob@BÜCHER.example", "--keep")
    [row] = shell.rows("user", "list")
    assert (row["forward_to"], row["keep"]) == ("bob@xn--bcher-kva.example", True)
    [row] = shell.rows("user", "set", "bob@example.com", "--no-keep")
    assert (row["forward_to"], row["keep"]) == ("bob@xn--bcher-kva.example", False)
    shell.ok("user", "set", "bob@example.com", "--keep")
    [row] = shell.rows("user", "set", "bob@example.com", "--forward-to", "")
    assert (row["forward_to"], row["keep"]) == (None, False)


def test_setChangesOnlyWhatIsSaid(shell):
    shell.ok("user", "add", "bob@example.com", "--name", "Bob", "--moved-to", "b@else.org")
    [row] = shell.rows("user", "set", "bob@example.com", "--name", "Robert")
    assert (row["name"], row["moved_to"]) == ("Robert", "b@else.org")
    [row] = shell.rows("user", "set", "bob@example.com", "--moved-to", "")
    assert (row["name"], row["moved_to"]) == ("Robert", None)


def test_forwardedAndMovedExcludeOneAnother_theNewerWordCounts(shell):
    shell.ok("user", "add", "bob@example.com", "--moved-to", "m@else.org")
    [row] = shell.rows("user", "set", "bob@example.com", "--forward-to", "f@else.org")
    assert (row["forward_to"], row["moved_to"]) == ("f@else.org", None)
    [row] = shell.rows("user", "set", "bob@example.com", "--moved-to", "m@else.org")
    assert (row["forward_to"], row["moved_to"]) == (None, "m@else.org")
    both = ("--forward-to", "f@else.org", "--moved-to", "m@else.org")
    assert "exclude" in shell.complaint("user", "set", "bob@example.com", *both)


def test_keepWithoutForwardingIsRefused(shell):
    assert "--forward-to" in shell.complaint("user", "add", "bob@example.com", "--keep")
    assert shell.rows("user", "list") == []


def test_removingAUserLeavesTheRest(shell):
    shell.ok("user", "add", "bob@example.com")
    shell.ok("user", "add", "ann@example.com")
    [row] = shell.rows("user", "remove", "BOB@example.com")
    assert row["address"] == "bob@example.com"
    assert [row["address"] for row in shell.rows("user", "list")] == ["ann@example.com"]


@pytest.mark.parametrize("command", ["set", "passwd", "remove"])
def test_anUnknownUserIsSaidSo(shell, command):
    assert "there is no user nobody@x.org" in shell.complaint("user", command, "nobody@x.org")


@pytest.mark.databases("sqlite")
def test_aRowInsertedByHandCanBeChanged(shell):
    shell.sql("INSERT INTO users (address, created_at) VALUES ('Bob@Example.com', 'once')")
    [row] = shell.rows("user", "set", "bob@example.com", "--name", "Bob")
    assert (row["name"], row["created_at"]) == ("Bob", "once")


# Passwords


def test_passwordsAreStoredAsArgon2id(shell):
    shell.ok("user", "add", "bob@example.com", "--password-stdin", input="sécret\r\nrest".encode())
    assert hashOf(shell).startswith("$argon2id$")
    assert PasswordHasher().verify(hashOf(shell), "sécret")


def test_withoutAPasswordNobodyCanLogIn(shell):
    shell.ok("user", "add", "bob@example.com")
    assert hashOf(shell) is None


@pytest.mark.parametrize("command", ["set", "passwd"])
def test_aPasswordIsChangedFromStandardInput(shell, command):
    shell.ok("user", "add", "bob@example.com")
    [row] = shell.rows("user", command, "bob@example.com", "--password-stdin", input=b"new\n")
    assert row["address"] == "bob@example.com"
    assert PasswordHasher().verify(hashOf(shell), "new")


@pytest.mark.parametrize("octets", [b"", b"\n", b"\xff\xfe\n"])
def test_aPasswordThatCannotBeIsRefused(shell, octets):
    line = shell.complaint("user", "add", "bob@x.org", "--password-stdin", input=octets)
    assert "standard input" in line
    assert shell.rows("user", "list") == []


def test_withoutATerminalPasswdNamesTheOption(shell):
    shell.ok("user", "add", "bob@example.com")
    assert "--password-stdin" in shell.complaint("user", "passwd", "bob@example.com", input=b"x\n")


def test_onATerminalThePasswordIsAskedTwice_andNotShown(shell):
    shell.ok("user", "add", "bob@example.com")
    ours, theirs = pty.openpty()
    process = shell.process(
        "user", "passwd", "bob@example.com",
        stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
    )  # fmt: skip
    os.close(theirs)
    seen = b""
    answers = [b"secret\n", b"secret\n"]
    while True:
        try:
            piece = os.read(ours, 1000)
        except OSError:  # the other side is closed
            break
        seen += piece
        if piece.rstrip().endswith(b":") and answers:
            os.write(ours, answers.pop(0))
    os.close(ours)
    assert process.wait(20) == 0
    assert answers == []
    assert b"secret" not in seen
    assert b"new password" in seen
    assert PasswordHasher().verify(hashOf(shell), "secret")


def test_anErrorInAProcessOfItsOwnIsOneLineAndStatus1(shell):
    process = shell.process("user", "remove", "nobody@example.com")
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (1, b"")
    assert err.startswith(b"smtpstore: there is no user")
    assert err.count(b"\n") == 1


def test_aTerminalOfAnotherEncodingIsNoReasonToFail(shell):
    shell.ok("user", "add", "bob@example.com", "--name", "Zoë ✓")
    process = shell.process("user", "list", env={"PYTHONIOENCODING": "latin-1"})
    out, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, b"")
    assert b"Zo\xeb \\u2713" in out


@pytest.mark.databases("sqlite")
def test_aReaderThatGoesAwayIsNotComplainedOf(shell):
    for number in range(3):
        shell.sql(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 20000)"
            f" INSERT INTO users (address) SELECT 'u{number}-' || i || '@example.com' FROM n"
        )
    process = shell.process("user", "list")
    assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    process.wait(20)


def test_helpShowsExamples():
    from click.testing import CliRunner

    from mailsrv.cli import main

    for group in ("", "user", "alias", "group", "message"):
        result = CliRunner().invoke(main, [*group.split(), "--help"])
        assert "Examples:" in result.stdout
        assert result.exit_code == 0


def test_aUsageErrorIsStatus2(shell):
    assert shell.run("user", "add").exit_code == 2
    assert shell.run("frobnicate").exit_code == 2
