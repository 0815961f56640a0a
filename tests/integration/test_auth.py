"""Logging in on real sockets: users made by the command line, submissions, whose name they use."""

from __future__ import annotations

import smtplib
import subprocess
import sys
from base64 import b64encode

from integration.realserver import LIMIT, Server, StartServer, environment
from integration.test_tls import trusting

SUBMISSION = ("--submission", "tcp:0:interface=127.0.0.1")
INSECURE = ("--auth-insecure", *SUBMISSION)
LOCAL = ("--domain", "example.com")
PASSWORD = "correct horse, Pferd, ĉevalo"
TEXT = b"From: bob@example.com\r\nSubject: Hello\r\n\r\nA line.\r\n"


def submit(server: Server) -> smtplib.SMTP:
    client = smtplib.SMTP("127.0.0.1", server.portOf("Submission"), timeout=LIMIT)
    client.ehlo()
    return client


def logIn(client: smtplib.SMTP, name: str, password: str = PASSWORD) -> int:
    response = b64encode(f"\0{name}\0{password}".encode()).decode()
    return client.docmd(f"AUTH PLAIN {response}")[0]


def smtpstore(server: Server, *args: str, says: bytes = b"") -> None:
    subprocess.run(
        [sys.executable, "-c", "from mailsrv.cli import main; main()", *args],
        env=environment(SMTPSTORE_DB=f"sqlite:{server.db}"),
        input=says,
        check=True,
        capture_output=True,
        timeout=LIMIT,
    )


def test_a_submission_asks_for_a_login_and_completes_the_message(startServer: StartServer) -> None:
    server = startServer("--tls", "auto", *SUBMISSION)
    server.addUser("bob@example.com", PASSWORD)
    with submit(server) as client:
        assert not client.has_extn("auth")
        assert logIn(client, "bob@example.com") == 538
        assert client.mail("bob@example.com")[0] == 530
        client.starttls(context=trusting())
        client.ehlo()
        assert client.mail("bob@example.com")[0] == 530
        assert logIn(client, "bob@example.com", "wrong") == 535
        assert logIn(client, "Bob@Example.com") == 235
        assert logIn(client, "bob@example.com") == 503
        client.sendmail("bob@example.com", "carol@example.org", TEXT)
    [(protocol, trace, data)] = server.rows("SELECT protocol, trace, data FROM messages")
    assert protocol == "ESMTPSA"
    assert data == TEXT
    trace = trace if isinstance(trace, str) else trace.decode()
    assert " with ESMTPSA id " in trace
    assert "\nDate: " in trace
    assert "\nMessage-ID: <" in trace
    server.waitFor("verb=AUTH reply='535 ")
    assert not any(word in line for line in server.log for word in ("wrong", "Pferd", "xlaG9"))


def test_in_clear_only_loopback_and_only_where_it_was_said(startServer: StartServer) -> None:
    server = startServer(*INSECURE)
    server.addUser("bob@example.com", PASSWORD)
    with submit(server) as client:
        assert client.mail("bob@example.com")[0] == 530
        assert logIn(client, "bob@example.com") == 235
        client.sendmail("bob@example.com", "carol@example.org", TEXT)
    assert server.rows("SELECT protocol FROM messages") == [("ESMTPA",)]
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.sendmail("a@example.com", "b@example.org", TEXT)  # no login on the SMTP port


def test_who_logged_in_may_relay_and_who_did_not_may_not(startServer: StartServer) -> None:
    server = startServer(*LOCAL, *INSECURE)
    server.addUser("bob@example.com", PASSWORD)
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.ehlo()
        client.mail("bob@example.com")
        assert client.rcpt("carol@example.org")[0] == 550
        client.rset()
        assert logIn(client, "bob@example.com") == 235
        client.sendmail("bob@example.com", "carol@example.org", TEXT)
    [(address,)] = server.rows("SELECT address FROM queue")
    assert address == "carol@example.org"


def test_a_login_sends_under_its_own_names_where_that_is_asked_for(
    startServer: StartServer,
) -> None:
    server = startServer(*LOCAL, *INSECURE, "--login-senders", "own")
    server.addUser("bob@example.com", PASSWORD)
    server.addUser("eve@example.com", PASSWORD)
    smtpstore(server, "alias", "add", "sales@example.com", "bob@example.com")
    with submit(server) as client:
        assert logIn(client, "bob@example.com") == 235
        for sender, code in (
            ("bob@example.com", 250),
            ("BOB@example.com", 250),
            ("sales@example.com", 250),
            ("", 250),
            ("eve@example.com", 553),
            ("sales@example.org", 553),
            ("nobody@example.com", 553),
        ):
            assert client.mail(sender)[0] == code, sender
            client.rset()
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.ehlo()
        assert client.mail("eve@example.com")[0] == 250, "who did not log in is not asked"


def test_a_sink_may_have_users_too(startServer: StartServer) -> None:
    server = startServer(*INSECURE, "--login-senders", "own")
    server.addUser("bob@example.com", PASSWORD)
    with submit(server) as client:
        assert logIn(client, "nobody@example.com") == 535
        assert logIn(client, "bob@example.com") == 235
        assert client.mail("eve@example.com")[0] == 553
        client.sendmail("bob@example.com", "carol@example.org", TEXT)


def test_a_password_that_was_changed_is_the_one_that_counts(startServer: StartServer) -> None:
    server = startServer(*INSECURE)
    server.addUser("bob@example.com", "old")
    with submit(server) as client:
        assert logIn(client, "bob@example.com", "old") == 235
    smtpstore(server, "user", "passwd", "bob@example.com", "--password-stdin", says=b"new")
    with submit(server) as client:
        assert logIn(client, "bob@example.com", "old") == 535
        assert logIn(client, "bob@example.com", "new") == 235


def test_a_stop_while_a_wrong_password_waits_ends_in_time(startServer: StartServer) -> None:
    server = startServer(*INSECURE)
    client = submit(server)
    response = b64encode(b"\0bob@example.com\0wrong").decode()
    client.send(f"AUTH PLAIN {response}\r\n")
    server.process.terminate()
    assert client.getreply()[0] in (421, 535)
    client.close()
    server.waitFor("Stopped")
