"""What we give to other people's tests: servers, inboxes, faults, in pytest and in trial."""

from __future__ import annotations

import os
import smtplib
import ssl
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from mailsrv.interfaces import Limits
from mailsrv.smtp.errors import Unavailable
from mailsrv.smtp.message import Recipient
from mailsrv.store.dialect import parseUrl
from mailsrv.store.memory import MemoryStore
from mailsrv.testing import (
    HeldStore,
    Inbox,
    MailServer,
    ServerProcess,
    makeMessage,
    readMessage,
)
from mailsrv.testing.faults import Fault, Faults, faultOf
from mailsrv.testing.security import certificateIn

ROOT = Path(__file__).parents[1]
LETTER = "Subject: Hello\r\n\r\nHi.\r\n"


def send(server, to: str = "bob@example.com", sender: str = "ann@x.org") -> None:
    with smtplib.SMTP(server.host, server.port, timeout=20) as client:
        client.sendmail(sender, [to], LETTER)


def outcome(server, to: str = "bob@example.com", sender: str = "ann@x.org") -> int | str:
    """How sending ends: 250, the code of the refusal, or `dropped`."""
    try:
        send(server, to, sender)
    except smtplib.SMTPRecipientsRefused as error:
        return error.recipients[to][0]
    except smtplib.SMTPResponseException as error:
        return error.smtp_code
    except (smtplib.SMTPServerDisconnected, ConnectionError):
        return "dropped"
    return 250


# A server in the test's own reactor


@pytest_twisted.ensureDeferred
async def test_a_message_that_was_sent_is_waited_for_and_is_in_the_database():
    async with MailServer(reactor) as server:
        waiting = server.waitFor(to="BOB@example.com")
        await deferToThread(send, server)
        [message] = await waiting
        assert message.summary.subject == "Hello"
        assert message.content.head(100) == LETTER.encode()
        assert message.sender == "ann@x.org"
        assert readMessage(parseUrl(server.db), message.id).summary == message.summary
        assert server.messages() == [message]
        assert server.messages("ann@example.com") == []
        folder = Path(server.db.removeprefix("sqlite:")).parent
    assert not folder.exists()


@pytest_twisted.ensureDeferred
async def test_with_users_only_these_receive_and_faults_still_happen():
    async with MailServer(reactor, users=["bob@example.com"]) as server:
        for to, expected in (
            ("bob@example.com", 250),
            ("ann@example.com", 550),
            ("x@else.org", 550),
            ("452@rcpt.fault.test", 452),
            ("x@data.fault.test", 250),
        ):
            assert await deferToThread(outcome, server, to) == expected, to
        [message] = server.messages("bob@example.com")
        assert message.recipients[0].userId is not None
        client = smtplib.SMTP(timeout=20)
        await deferToThread(client.connect, server.host, server.port)
        assert (await deferToThread(client.docmd, "VRFY bob"))[0] == 250
        assert (await deferToThread(client.docmd, "EXPN bob"))[0] == 550
        await deferToThread(client.quit)


@pytest_twisted.ensureDeferred
async def test_a_store_of_the_tests_own_takes_the_place_of_the_file():
    held = HeldStore()
    async with MailServer(reactor, store=held, limits=Limits(maxSize=1000)) as server:
        sending = deferToThread(outcome, server)
        while not held.waiting:
            await deferToThread(lambda: None)
        assert server.messages() == []
        held.fail(Unavailable("now"))
        assert await sending == 421
        assert server.messages() == []


@pytest.mark.parametrize(
    ("to", "sender", "expected"),
    [
        ("550@rcpt.fault.test", "ann@x.org", 550),
        ("451@data.fault.test", "ann@x.org", 451),
        ("bob@example.com", "421@mail.fault.test", 421),
        ("bob@example.com", "552@MAIL.fault.test", 552),
        ("drop@rcpt.fault.test", "ann@x.org", "dropped"),
        ("drop@data.fault.test", "ann@x.org", "dropped"),
        ("bob@example.com", "drop@mail.fault.test", "dropped"),
        ("slow-20ms@data.fault.test", "slow-0.01s@mail.fault.test", 250),
        ("250@rcpt.fault.test", "ann@x.org", 250),
        ("550@other.fault.test", "ann@x.org", 250),
    ],
)
@pytest_twisted.ensureDeferred
async def test_faults_happen_to_who_asks_for_them(to, sender, expected):
    async with MailServer(reactor) as server:
        assert await deferToThread(outcome, server, to, sender) == expected
        assert len(server.messages()) == (expected == 250)
        assert await deferToThread(outcome, server) == 250  # and to nobody else


@pytest.mark.parametrize(("fault", "expected"), [("421", 421), ("drop", "dropped")])
@pytest_twisted.ensureDeferred
async def test_the_next_connection_can_be_refused(fault, expected):
    async with MailServer(reactor) as server:
        assert await deferToThread(outcome, server, f"{fault}@connect.fault.test") == 250
        assert await deferToThread(outcome, server) == expected
        assert await deferToThread(outcome, server) == 250


@pytest_twisted.ensureDeferred
async def test_a_message_can_be_stored_and_its_250_lost():
    async with MailServer(reactor) as server:
        assert await deferToThread(outcome, server, "drop@stored.fault.test") == "dropped"
        await server.waitFor(to="drop@stored.fault.test")


@pytest_twisted.ensureDeferred
async def test_what_does_not_come_fails_the_test_and_says_what_came():
    async with MailServer(reactor) as server:
        await deferToThread(send, server)
        with pytest.raises(AssertionError, match=r"0 of 1 messages to x@y\.z came within 0\.05"):
            await server.waitFor(to="x@y.z", timeout=0.05)
        with pytest.raises(AssertionError, match=r"ann@x\.org to bob@example\.com: Hello"):
            await server.waitFor(count=2, timeout=0.05)


@pytest_twisted.ensureDeferred
async def test_a_server_that_never_started_stops():
    server = MailServer(reactor)
    await server.stop()
    assert not Path(server.db.removeprefix("sqlite:")).exists()


class InboxTests(SynchronousTestCase):
    """Waiting, with a clock that stands still."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.told = []
        self.inbox = Inbox(MemoryStore(), self.clock, self.told.append)

    def put(self, address: str) -> None:
        self.successResultOf(self.inbox.store(makeMessage(recipients=(Recipient(address),))))

    def test_who_waits_for_more_waits_on(self) -> None:
        two, other = self.inbox.waitFor("a@b.c", count=2), self.inbox.waitFor("<odd>")
        self.put("A@B.C")
        self.assertNoResult(two)
        self.put("a@b.c")
        self.assertEqual(len(self.successResultOf(two)), 2)
        self.put("<ODD>")
        self.successResultOf(other)
        self.assertEqual(len(self.told), 3)
        self.assertEqual(len(self.inbox.messages()), 3)

    def test_who_gave_up_is_not_told_any_more(self) -> None:
        waiting = self.inbox.waitFor(timeout=5)
        self.clock.advance(5)
        failure = self.failureResultOf(waiting, AssertionError)
        self.assertIn("0 of 1 messages to anybody came within 5 seconds", str(failure.value))
        self.assertIn("in all: none", str(failure.value))
        self.put("a@b.c")

    def test_what_is_not_stored_is_not_there(self) -> None:
        held = HeldStore()
        inbox = Inbox(held, self.clock)
        answer = inbox.store(makeMessage())
        held.fail(Unavailable("x"))
        self.failureResultOf(answer, Unavailable)
        self.assertEqual(inbox.messages(), [])
        again = inbox.store(makeMessage())
        held.commit()
        self.successResultOf(again)
        self.assertEqual(len(inbox.messages()), 1)


@pytest.mark.parametrize(
    ("address", "moment", "fault"),
    [
        ("451@data.fault.test", "data", Fault(451)),
        ("DROP@Data.Fault.Test", "data", Fault(drops=True)),
        ("slow-2s@rcpt.fault.test", "rcpt", Fault(seconds=2.0)),
        ("slow-250ms@rcpt.fault.test", "rcpt", Fault(seconds=0.25)),
        ("451@data.fault.test", "rcpt", None),
        ("351@data.fault.test", "data", None),
        ("slow@data.fault.test", "data", None),
        ("postmaster", "data", None),
    ],
)
def test_addresses_are_wishes(address, moment, fault):
    assert faultOf(address, moment) == fault


def test_faults_without_a_way_to_drop_say_421():
    class Session:
        hostname = "mail.test"

    class Transaction:
        session = Session()
        reversePath = "drop@mail.fault.test"

    faults = Faults(Clock())
    answers = []
    faults.atMail(Transaction()).addCallback(answers.append)
    assert answers[0].code == 421
    faults.messageStored(
        Session(), makeMessage(recipients=(Recipient("drop@stored.fault.test"),)), 0
    )


# A server in a process of its own


def test_a_process_serves_who_blocks():
    with ServerProcess(users=["bob@example.com"]) as server:
        send(server)
        [message] = server.waitFor(to="bob@example.com")
        assert message.content.head(100) == LETTER.encode()
        assert outcome(server, "ann@example.com") == 550
        server.forget()
        assert server.messages() == []
        with pytest.raises(AssertionError, match="0 of 1 messages to anybody came within"):
            server.waitFor(timeout=0.05)
        send(server)
        assert len(server.waitFor()) == 1
    assert len(server.messages()) == 1  # it can be looked at when the server has gone
    with pytest.raises(AssertionError, match="1 of 2"):
        server.waitFor(count=2, timeout=100)
    server.stop()


# TLS and logins

LOGINS = {"bob@example.com": "secret"}


def loggedIn(server, isImplicit: bool, password: str = "secret") -> str:
    """Send a letter by a client that verifies the server and logs in; its certificate's name."""
    context = ssl.create_default_context(cafile=server.certificate)
    port = server.tlsPort if isImplicit else server.port
    kind = partial(smtplib.SMTP_SSL, context=context) if isImplicit else smtplib.SMTP
    with kind("localhost", port, timeout=20) as client:
        if not isImplicit:
            client.ehlo()
            assert "auth" not in client.esmtp_features
            client.starttls(context=context)
        client.login("bob@example.com", password)
        client.sendmail("bob@example.com", ["ann@example.com"], LETTER)
        return client.sock.getpeercert()["subject"][0][0][1]


@pytest.mark.parametrize("isImplicit", [False, True], ids=["STARTTLS", "TLS"])
@pytest_twisted.ensureDeferred
async def test_a_client_in_tls_logs_in(isImplicit):
    async with MailServer(reactor, tls=True, logins=LOGINS) as server:
        assert await deferToThread(loggedIn, server, isImplicit) == "mail.test"
        [message] = await server.waitFor(to="ann@example.com")
        assert message.protocol == "ESMTPSA"
        with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
            await deferToThread(loggedIn, server, isImplicit, "wrong")


@pytest_twisted.ensureDeferred
async def test_a_login_may_be_required_and_goes_in_clear_where_there_is_no_tls():
    async with MailServer(reactor, logins=LOGINS, requireLogin=True) as server:
        assert (server.tlsPort, server.certificate) == (0, "")
        assert await deferToThread(outcome, server) == 530

        def logIn() -> None:
            with smtplib.SMTP(server.host, server.port, timeout=20) as client:
                client.login("bob@example.com", "secret")
                client.sendmail("bob@example.com", ["ann@example.com"], LETTER)

        await deferToThread(logIn)
        [message] = await server.waitFor(to="ann@example.com")
        assert message.protocol == "ESMTPA"


@pytest_twisted.ensureDeferred
async def test_faults_happen_in_tls_too():
    async with MailServer(reactor, tls=True) as server:

        def dropped() -> bool:
            context = ssl.create_default_context(cafile=server.certificate)
            with smtplib.SMTP_SSL(
                "localhost", server.tlsPort, timeout=20, context=context
            ) as client:
                client.ehlo()
                client.mail("a@example.com")
                try:
                    client.rcpt("drop@rcpt.fault.test")
                except smtplib.SMTPServerDisconnected:
                    return True
                return False

        assert await deferToThread(dropped)


def test_tls_without_its_packages_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mailsrv.server.certificate", None)
    with pytest.raises(RuntimeError, match=r"pip install 'smtpstore\[tls\]'"):
        certificateIn(tmp_path, "mail.test")


def test_a_process_has_tls_and_logins_too():
    with ServerProcess(tls=True, logins=LOGINS, requireLogin=True) as server:
        loggedIn(server, isImplicit=True)
        loggedIn(server, isImplicit=False)
        first, second = server.waitFor(to="ann@example.com", count=2)
        assert (first.protocol, second.protocol) == ("ESMTPSA", "ESMTPSA")
        assert outcome(server) == 530


@pytest.fixture
def temporary(monkeypatch, tmp_path):
    """The place for temporary files, of which nothing may be left."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    yield
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_cannot_start_says_so(temporary, capfd):
    with pytest.raises(RuntimeError, match="did not start; what it said is on standard error"):
        ServerProcess(users=[7]).start()
    assert "Traceback" in capfd.readouterr().err


def test_a_process_that_hangs_is_ended(temporary, monkeypatch):
    monkeypatch.setattr("mailsrv.testing.process._STOP", 0.1)
    server = ServerProcess().start()
    process = server._process
    process.send_signal(19)  # it is stopped, and hears nothing
    server.stop()
    assert process.returncode == -9


# pytest and trial, as others run them

USERS_TESTS = """
import smtplib

def test_first(smtpserver):
    with smtplib.SMTP(smtpserver.host, smtpserver.port) as client:
        client.sendmail("a@b.c", ["bob@example.com"], "Subject: first\\r\\n\\r\\n")
    [message] = smtpserver.waitFor(to="bob@example.com")
    assert message.summary.subject == "first"

def test_second_sees_nothing_of_the_first(smtpserver):
    assert smtpserver.messages() == []
"""
USERS_TRIAL = """
import smtplib
from twisted.internet import reactor
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase
from mailsrv.testing import MailServer

class Tests(TestCase):
    async def test_mail(self):
        server = await MailServer(reactor).start()
        self.addCleanup(server.stop)
        def send():
            with smtplib.SMTP(server.host, server.port) as client:
                client.sendmail("a@b.c", ["bob@example.com"], "Subject: first\\r\\n\\r\\n")
        await deferToThread(send)
        [message] = await server.waitFor(to="bob@example.com")
        self.assertEqual(message.summary.subject, "first")
"""


def run(tmp_path: Path, source: str, *command: str) -> str:
    (tmp_path / "test_theirs.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-m", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("without", [(), ("-p", "no:twisted")], ids=["with", "without"])
def test_the_fixture_works_with_pytest_twisted_and_without(tmp_path, without):
    out = run(
        tmp_path, USERS_TESTS, "pytest", "-q", "-W", "error", *without, "-p", "no:smtpstore",
        "-p", "mailsrv.pytestfixture",
    )  # fmt: skip
    assert "2 passed" in out


def test_the_plugin_costs_nothing_where_nobody_asks_for_it(tmp_path):
    source = (
        "import sys\ndef test_lean():\n"
        "    assert not [n for n in sys.modules if n.startswith(('twisted', 'mailsrv.testing'))]\n"
    )
    plugins = ("-p", "no:twisted", "-p", "no:smtpstore")
    assert "1 passed" in run(
        tmp_path, source, "pytest", "-q", *plugins, "-p", "mailsrv.pytestfixture"
    )


def test_trial_is_served_in_its_own_reactor(tmp_path):
    assert "successes=1" in run(tmp_path, USERS_TRIAL, "twisted.trial", "test_theirs")


def test_the_entry_point_names_the_plugin():
    import configparser

    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    assert "smtpstore = mailsrv.pytestfixture" in config["options.entry_points"]["pytest11"]
