"""smtpstore group"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.databases

STAFF = "staff@example.com"


def test_aGroupIsMadeListedShownAndRemoved(shell):
    shell.ok("group", "add", STAFF, "bob@example.com", "joe@else.org", "--name", "Staff")
    assert shell.rows("group", "list") == [
        {"id": 1, "address": STAFF, "name": "Staff", "members": ["bob@example.com", "joe@else.org"]}
    ]
    assert shell.ok("group", "list").splitlines() == [
        "address            name   members",
        "staff@example.com  Staff  2",
    ]
    assert shell.ok("group", "show", STAFF) == "address\nbob@example.com\njoe@else.org\n"
    assert shell.rows("group", "show", STAFF) == [
        {"group_id": 1, "address": "bob@example.com"},
        {"group_id": 1, "address": "joe@else.org"},
    ]
    shell.ok("group", "remove", "STAFF@example.com")
    assert shell.rows("group", "list") == []
    assert shell.sql("SELECT * FROM mailing_group_members") == []


def test_aGroupMayHaveNoMembersYet(shell):
    shell.ok("group", "add", STAFF)
    assert shell.rows("group", "show", STAFF) == []


def test_membersJoinOnce_inOrder(shell):
    shell.ok("group", "add", STAFF, "bob@example.com", "BOB@example.com")
    [row] = shell.rows("group", "join", STAFF, "ann@example.com", "Bob@Example.com")
    assert row["members"] == ["bob@example.com", "ann@example.com"]


def test_membersLeave(shell):
    shell.ok("group", "add", STAFF, "bob@example.com", "ann@example.com")
    [row] = shell.rows("group", "leave", STAFF, "BOB@example.com")
    assert row["members"] == ["ann@example.com"]


def test_whoIsNoMemberCannotLeave_andThenNobodyDoes(shell):
    shell.ok("group", "add", STAFF, "bob@example.com")
    line = shell.complaint("group", "leave", STAFF, "bob@example.com", "joe@else.org")
    assert "joe@else.org is no member" in line
    assert len(shell.rows("group", "show", STAFF)) == 1


def test_anUnknownGroupIsSaidSo(shell):
    for command in (["show"], ["remove"], ["join", "a@x.org"], ["leave", "a@x.org"]):
        line = shell.complaint("group", command[0], "none@example.com", *command[1:])
        assert "there is no group none@example.com" in line


def test_whatIsTakenIsRefused(shell):
    shell.ok("user", "add", STAFF)
    assert "a user already" in shell.complaint("group", "add", STAFF)
