"""Real clients against the real server: what they were answered 250 for is in the table."""

from __future__ import annotations

import hashlib
import smtplib
import subprocess
from collections.abc import Callable

import pytest

from integration.realserver import LIMIT, StartServer

Tool = Callable[[str], str]
pytestmark = pytest.mark.databases

TEXT = b"Subject: Hello\r\nMessage-ID: <1@example.com>\r\n\r\nA line.\r\n.A dot.\r\n..Two.\r\n"


def run(*command: str, **more: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, capture_output=True, timeout=3 * LIMIT, check=True, **more)  # type: ignore[call-overload,no-any-return]


def test_what_smtplib_sends_is_stored_octet_for_octet(startServer: StartServer) -> None:
    server = startServer()
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        assert client.sendmail("a@example.com", ["b@example.org", "c@example.org"], TEXT) == {}
    assert server.rows("SELECT sender, subject, size, data, sha256 FROM messages") == [
        ("a@example.com", "Hello", len(TEXT), TEXT, hashlib.sha256(TEXT).hexdigest())
    ]
    assert server.rows("SELECT address FROM recipients ORDER BY address") == [
        ("b@example.org",),
        ("c@example.org",),
    ]


def test_each_message_stored_is_one_log_line(startServer: StartServer) -> None:
    server = startServer()
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.sendmail("a@example.com", ["b@example.org"], TEXT)
        [(id,)] = server.rows("SELECT id FROM messages")
        line = server.waitFor("stored id=").string
        assert f"id={id} peer=127.0.0.1 from=<a@example.com> to=<b@example.org>" in line
        assert f"size={len(TEXT)} ms=" in line


def test_each_refusal_is_one_log_line_with_its_reason(startServer: StartServer) -> None:
    server = startServer("--domain", "example.com")
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@example.org", ["nobody@example.com"], TEXT)
        line = server.waitFor("refused peer=").string
        assert "peer=127.0.0.1 verb=RCPT reply='550 5.1.1 " in line
        assert "nobody@example.com" in line
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@example.org", ["b@elsewhere.example"], TEXT)
        server.waitFor("reply='550 5.7.1 ")


def test_swaks(startServer: StartServer, tool: Tool) -> None:
    server = startServer()
    run(
        *(tool("swaks"), "--server", server.address, "--from", "a@example.com"),
        *("--to", "b@example.org", "--header", "Subject: By swaks", "--body", "Hello"),
    )
    assert server.rows("SELECT sender, subject FROM messages") == [("a@example.com", "By swaks")]


def test_curl(startServer: StartServer, tool: Tool) -> None:
    server = startServer()
    run(
        *(tool("curl"), "--silent", "--show-error", f"smtp://{server.address}"),
        *("--mail-from", "a@example.com", "--mail-rcpt", "b@example.org", "--upload-file", "-"),
        input=TEXT,
    )
    assert server.rows("SELECT sender, data FROM messages") == [("a@example.com", TEXT)]


def test_the_hint_in_the_log_sends_a_first_mail(startServer: StartServer, tool: Tool) -> None:
    tool("curl")
    server = startServer()
    run("sh", "-c", server.waitFor("Try it: (.*)")[1])
    assert server.rows("SELECT sender, body FROM messages") == [("me@example.com", "Hello\n")]


def test_two_thousand_messages_of_smtp_source_on_twenty_connections(
    startServer: StartServer, tool: Tool
) -> None:
    server = startServer()
    run(
        *(tool("smtp-source"), "-s", "20", "-m", "2000", "-l", "4096"),
        *("-f", "a@example.com", "-t", "b@example.org", server.address),
    )
    assert server.rows("SELECT count(*), count(DISTINCT id) FROM messages") == [(2000, 2000)]


def test_a_user_receives_and_a_stranger_does_not(startServer: StartServer) -> None:
    server = startServer("--domain", "example.com")
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.ehlo()
        client.mail("a@example.org")
        assert client.rcpt("bob@example.com")[0] == 550
        assert client.rcpt("postmaster")[0] == 250
