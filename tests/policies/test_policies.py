"""Policies: whom we refuse."""

from __future__ import annotations

import ipaddress
from typing import Any

import pytest
from twisted.internet.defer import Deferred, succeed
from zope.interface.verify import verifyObject

from mailsrv.interfaces import IPolicy
from mailsrv.policies.policy import Policy
from mailsrv.policies.relay import RelayPolicy
from mailsrv.policies.secure import RequireLogin, RequireTls
from mailsrv.policies.senders import OwnSenders
from mailsrv.server.site import Listener
from mailsrv.smtp.address import Mailbox
from smtpconversation import ENVELOPE, Server


def test_all_keep_the_contract_and_the_base_lets_everything_pass() -> None:
    for policy in (
        Policy(),
        RelayPolicy([]),
        RequireTls(),
        RequireLogin(),
        OwnSenders(lambda *_: True),
    ):
        verifyObject(IPolicy, policy)
    server = Server(policies=[Policy()])
    assert server.greeted(*ENVELOPE, "DATA").codes(".") == [250]


class TestRelay:
    """550 5.7.1 to a recipient elsewhere, unless the client may (RFC 5321 §7.1)."""

    def code(
        self, recipient: str, peer: str = "192.0.2.7", identity: str | None = None
    ) -> tuple[int, bytes]:
        networks = [ipaddress.ip_network(text) for text in ("10.0.0.0/8", "2001:db8::/32")]
        policy = RelayPolicy(["Example.ORG", "exämple.test"], networks)
        client = Server(policies=[policy]).greeted("MAIL FROM:<a@b.c> SMTPUTF8", peer=peer)
        client.protocol.session.identity = identity
        said = client.say(f"RCPT TO:<{recipient}>")
        return int(said[:3]), said[4:9]

    @pytest.mark.parametrize(
        "recipient",
        [
            "alice@example.org",
            "alice@EXAMPLE.org",
            "postmaster",
            "PostMaster",
            "1@exämple.test",
            "1@xn--exmple-cua.test",
            "@elsewhere.test:alice@example.org",
        ],
    )
    def test_our_own_domains_are_for_everybody(self, recipient: str) -> None:
        assert self.code(recipient)[0] == 250

    @pytest.mark.parametrize(
        "recipient",
        [
            "bob@elsewhere.test",
            "bob@sub.example.org",
            "bob@example.org.evil.test",
            "bob@[192.0.2.1]",
            "@example.org:bob@elsewhere.test",
            "bob%elsewhere.test@evil.test",
            '"bob@example.org"@elsewhere.test',
        ],
    )
    def test_any_other_is_denied(self, recipient: str) -> None:
        assert self.code(recipient) == (550, b"5.7.1")

    @pytest.mark.parametrize(
        ("peer", "may"),
        [
            ("10.1.2.3", True),
            ("::ffff:10.1.2.3", True),
            ("2001:db8::1", True),
            ("11.1.2.3", False),
            ("::ffff:11.1.2.3", False),
            ("2001:db9::1", False),
            ("127.0.0.1", False),
            ("", False),
        ],
    )
    def test_a_listed_client_may_relay(self, peer: str, may: bool) -> None:
        assert self.code("bob@elsewhere.test", peer)[0] == (250 if may else 550)

    def test_who_logged_in_may_relay(self) -> None:
        assert self.code("bob@elsewhere.test", identity="alice@example.org")[0] == 250
        assert self.code("bob@elsewhere.test", identity="")[0] == 550

    def test_with_nobody_listed_nobody_may(self) -> None:
        client = Server(policies=[RelayPolicy(["example.org"])]).greeted("MAIL FROM:<>")
        assert client.codes("RCPT TO:<a@b.c>", "RCPT TO:<nobody@example.org>") == [550, 550]


class TestSecure:
    def test_tls_may_be_required_of_mail_and_of_nothing_else(self) -> None:
        server = Server(policies=[RequireTls()])
        said = server.greeted().say("NOOP", "VRFY alice", "MAIL FROM:<>")
        assert b"530 5.7.0 Must issue a STARTTLS command first\r\n" in said
        secure = server.connect(listener=Listener(isSecure=True))
        secure.protocol.handshakeCompleted()
        assert secure.codes("EHLO c", "MAIL FROM:<>")[-1] == 250

    @pytest.mark.parametrize(
        ("isSubmission", "identity", "code"),
        [(True, None, 530), (True, "a@b.c", 250), (False, None, 250), (False, "a@b.c", 250)],
    )
    def test_a_submission_needs_a_login(
        self, isSubmission: bool, identity: str | None, code: int
    ) -> None:
        client = Server(policies=[RequireLogin()]).greeted(
            listener=Listener(isSubmission=isSubmission)
        )
        client.protocol.session.identity = identity
        said = client.say("MAIL FROM:<a@b.c>")
        assert int(said[:3]) == code
        if code == 530:
            assert said.startswith(b"530 5.7.0 Authentication required")


class TestSenders:
    def code(self, sender: str, owns: Any, identity: str | None = "alice@example.org") -> int:
        client = Server(policies=[OwnSenders(owns)]).greeted()
        client.protocol.session.identity = identity
        return client.codes(f"MAIL FROM:<{sender}>")[0]

    def test_who_logged_in_writes_under_its_own_names_alone(self) -> None:
        def owns(identity: str, mailbox: Mailbox) -> bool:
            assert identity == "alice@example.org"
            return str(mailbox) in ("alice@example.org", "al@example.org")

        assert self.code("alice@example.org", owns) == 250
        assert self.code("al@example.org", owns) == 250
        assert self.code("bob@example.org", owns) == 553

    def test_the_answer_may_come_later(self) -> None:
        assert self.code("a@b.c", lambda *_: succeed(True)) == 250
        assert self.code("a@b.c", lambda *_: succeed(False)) == 553
        waiting: Deferred[bool] = Deferred()
        client = Server(policies=[OwnSenders(lambda *_: waiting)]).greeted()
        client.protocol.session.identity = "alice@example.org"
        assert client.say("MAIL FROM:<a@b.c>", "NOOP") == b""
        waiting.callback(False)
        assert client.heard().startswith(b"553 5.7.1 ")

    def test_nobody_is_asked_about_the_null_path_or_who_did_not_log_in(self) -> None:
        def owns(*_: object) -> bool:
            raise AssertionError("asked")

        assert self.code("", owns) == 250
        assert self.code("bob@example.org", owns, identity=None) == 250
