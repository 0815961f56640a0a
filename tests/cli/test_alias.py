"""smtpstore alias"""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.databases


def test_anAliasIsAddedListedAndRemoved(shell):
    shell.ok("alias", "add", "Sales@example.com", "bob@BÜCHER.example")
    expected = [{"address": "Sales@example.com", "target": "bob@xn--bcher-kva.example"}]
    assert shell.rows("alias", "list") == expected
    assert shell.rows("alias", "remove", "sales@EXAMPLE.com") == expected
    assert shell.rows("alias", "list") == []


def test_aDomainAloneIsItsCatchAll(shell):
    shell.ok("alias", "add", "@BÜCHER.example", "bob@example.com")
    assert shell.rows("alias", "list") == [
        {"address": "@xn--bcher-kva.example", "target": "bob@example.com"}
    ]
    shell.ok("alias", "remove", "@bücher.example")
    assert shell.rows("alias", "list") == []


def test_onlyTheAddressMayBeADomain(shell):
    assert "@domain" in shell.complaint("alias", "add", "@", "bob@example.com")
    line = shell.complaint("alias", "add", "a@example.com", "@example.com")
    assert line.endswith("write local-part@domain")


def test_anAliasOfItselfIsRefused(shell):
    assert "itself" in shell.complaint("alias", "add", "a@example.com", "A@example.com")


def test_whatIsTakenIsRefused(shell):
    shell.ok("alias", "add", "a@example.com", "b@example.com")
    assert "an alias already" in shell.complaint("alias", "add", "A@example.com", "c@example.com")


def test_anUnknownAliasIsSaidSo(shell):
    assert "there is no alias" in shell.complaint("alias", "remove", "a@example.com")
