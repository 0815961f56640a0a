"""smtpstore message"""

from __future__ import annotations

import subprocess

import pytest

from cli.stored import OCTETS, TRACE, put
from mailsrv.smtp.message import BytesContent, Recipient, Summary

pytestmark = pytest.mark.databases


def ids(shell, *filters: str) -> list[str]:
    return [row["id"] for row in shell.rows("message", "list", *filters)]


def test_messagesAreListedNewestFirst(shell):
    first, second = put(shell, 1), put(shell, 2, summary=Summary())
    assert shell.ok("message", "list").splitlines() == [
        "id                          received_at           size  sender        subject",
        f"{second}  2026-02-02T12:00:00Z  {len(OCTETS)}    Ann@else.org",
        f"{first}  2026-02-01T12:00:00Z  {len(OCTETS)}    Ann@else.org  Hello",
    ]


def test_jsonHasTheColumnsNames(shell):
    put(shell)
    [row] = shell.rows("message", "list")
    assert (row["received_at"], row["date"]) == ("2026-02-01T12:00:00Z", "2026-01-31T12:00:00Z")
    assert (row["subject"], row["msg_id"]) == ("Hello", "<1@else.org>")
    assert "data" not in row


def test_moreMessagesThanAPageAreListedOnceEach(shell, monkeypatch):
    monkeypatch.setattr("mailsrv.cli.message._PAGE", 3)
    stored = [put(shell, number) for number in range(7)]
    assert ids(shell) == stored[::-1]


def test_filters(shell):
    bob = put(shell, 1, summary=Summary("100% off_er", body="Invoice"))
    ann = put(shell, 2, recipients=(Recipient("ann@example.com"),), sender="")
    assert ids(shell, "--to", "BOB@example.com") == [bob]
    assert ids(shell, "--from", "ann@ELSE.org") == [bob]
    assert ids(shell, "--from", "<>") == [ann]
    assert ids(shell, "--since", "2026-02-02") == [ann]
    assert ids(shell, "--since", "2026-02-02T14:00:00+02:00") == [ann]
    assert ids(shell, "--search", "INVOICE") == [bob]
    assert ids(shell, "--search", "0% off_") == [bob]
    assert ids(shell, "--search", "1_0") == []
    assert ids(shell, "--search", "hello", "--from", "") == [ann]


@pytest.mark.parametrize("time", ["yesterday", "2026-02-30", "", "0001-01-01T00:00:00+10:00"])
def test_aTimeThatIsNoneIsSaidSo(shell, time):
    assert "is not a time; write 2026-01-31" in shell.complaint("message", "list", "--since", time)


def test_mailCannotDriveTheTerminal(shell):
    evil = "\x1b]0;owned\x07\u202e\u2028\x9b31m\nnext"
    id = put(shell, summary=Summary(evil, body=f"{evil}\r\nlast\ttab"), helo="\x1bh")
    for output in (shell.ok("message", "list"), shell.ok("message", "show", id)):
        assert not set(output) & set("\x1b\x07\u202e\u2028\x9b\r")
    assert "\\x1b]0;owned\\x07\\u202e\\u2028\\x9b31m\\nnext" in shell.ok("message", "list")
    assert shell.ok("message", "show", id).endswith("\nnext\nlast\ttab\n")
    assert shell.rows("message", "list")[0]["subject"] == evil


def test_showTellsEnvelopeAndText(shell):
    recipients = (Recipient("bob@example.com", 7), Recipient("ann@example.com"))
    id = put(shell, recipients=recipients, helo="else.org", protocol="ESMTP")
    lines = shell.ok("message", "show", id).splitlines()
    assert lines[0] == f"id:          {id}"
    assert "recipients:  bob@example.com, ann@example.com" in lines
    assert "helo:        else.org" in lines
    assert lines[-4:] == ["subject:     Hello", "", "Dear Bob,", "yours"]
    [row] = shell.rows("message", "show", id)
    assert row["trace"] == TRACE.decode()
    assert row["recipients"][0] == {
        "address": "bob@example.com", "user_id": 7, "parameters": ""
    }  # fmt: skip


def test_whatCouldNotBeReadIsLeftOut(shell):
    id = put(shell, summary=Summary())
    assert "date:" not in shell.ok("message", "show", id)


@pytest.mark.parametrize("command", ["show", "raw"])
def test_anUnknownMessageIsSaidSo(shell, command):
    assert "there is no message 01X; see" in shell.complaint("message", command, "01X")
    assert "\x1b" not in shell.complaint("message", command, "\x1b[31m")


def test_rawIsTheTraceThenTheExactOctets(shell):
    id = put(shell)
    assert shell.run("message", "raw", id).stdout_bytes == TRACE + OCTETS
    assert shell.run("message", "raw", id, "--no-trace").stdout_bytes == OCTETS


def test_rawOfALargeMessageInAProcessOfItsOwn(shell):
    octets = bytes(range(256)) * 4096 * 3 + b"end"
    id = put(shell, content=BytesContent(octets))
    process = shell.process("message", "raw", id, "--no-trace")
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, b"")
    assert out == octets


def test_whereTheReaderGoesAwayRawEndsQuietly(shell):
    id = put(shell, content=BytesContent(b"x" * 5_000_000))
    process = shell.process("message", "raw", id)
    assert process.stdout.read(10) == TRACE[:10]
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
