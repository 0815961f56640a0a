"""AUTH, the server half, over the wire (RFC 4954, RFC 4616), and its throttle."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from mailsrv.extensions.auth import AuthServer
from mailsrv.extensions.standard import standardExtensions
from mailsrv.extensions.throttle import MAX_ADDRESSES, Throttle
from mailsrv.interfaces import ILogin
from mailsrv.server.site import Listener
from mailsrv.smtp.errors import Busy, Unavailable
from smtpconversation import ENVELOPE, Client, Server, codesOf

LOCAL = {"peer": "127.0.0.1", "host": "127.0.0.1"}


@implementer(ILogin)
class Login:
    def __init__(self, identity: str) -> None:
        self.identity = identity


@implementer(IRealm, ICredentialsChecker)
class Accounts:
    """alice@example.org has the password secret."""

    credentialInterfaces = (IUsernamePassword,)

    def requestAvatarId(self, credentials: Any) -> Deferred[str]:
        given = (credentials.username, credentials.password)
        faults = {b"down": Unavailable("at 10.0.0.1"), b"busy": Busy("all")}
        if credentials.username in faults:
            return fail(faults[credentials.username])
        if given == (b"alice@example.org", b"secret"):
            return succeed("alice@example.org")
        return fail(UnauthorizedLogin("no"))

    def requestAvatar(self, avatarId: str, mind: object, *interfaces: Any) -> Any:
        return ILogin, Login(avatarId), lambda: None


def serve(allowInsecure: bool = True) -> Server:
    accounts, clock = Accounts(), Clock()
    auth = AuthServer(Portal(accounts, [accounts]), clock, allowInsecure=allowInsecure)
    return Server(clock=clock, extensions=[*standardExtensions(), auth])


def greeted() -> Client:
    return serve().greeted(**LOCAL)


def base64(*parts: str) -> str:
    return b64encode("\0".join(parts).encode()).decode()


RIGHT = base64("", "alice@example.org", "secret")
WRONG = base64("", "alice@example.org", "wrong")


def test_plain_with_its_response_at_once() -> None:
    client = greeted()
    assert client.say(f"AUTH PLAIN {RIGHT}").startswith(b"235 2.7.0 ")
    assert client.protocol.session.identity == "alice@example.org"


def test_plain_and_login_line_by_line_the_challenges_as_the_rfc_has_them() -> None:
    client = greeted()
    assert client.say("AUTH plain") in (b"334 \r\n", b"334\r\n")
    assert client.codes(RIGHT) == [235]
    client = greeted()
    assert client.say("AUTH LOGIN") == b"334 VXNlcm5hbWU6\r\n"
    assert client.say(base64("alice@example.org")) == b"334 UGFzc3dvcmQ6\r\n"
    assert client.codes(base64("secret"), "NOOP") == [235, 250]
    client = greeted()
    assert client.codes(f"AUTH LOGIN {base64('alice@example.org')}", base64("secret")) == [334, 235]


def test_an_empty_challenge_keeps_its_space() -> None:
    assert greeted().say("AUTH PLAIN") == b"334 \r\n"


def test_a_message_after_it_is_one_of_an_authenticated_client() -> None:
    server = serve()
    client = server.greeted(f"AUTH PLAIN {RIGHT}", **LOCAL)
    client.say("MAIL FROM:<> AUTH=<>", ENVELOPE[1], "DATA", ".")
    assert server.store.messages[0].protocol == "ESMTPA"


def test_refusals_come_in_their_order() -> None:
    server = serve()
    client = server.connect(**LOCAL)
    client.heard()
    assert client.codes("AUTH", "HELO c", "AUTH") == [503, 250, 503]
    client = server.greeted(**LOCAL)
    assert client.codes("AUTH", "AUTH CRAM-MD5", "AUTH X Y") == [501, 504, 504]
    assert client.codes("MAIL FROM:<>", "AUTH PLAIN", "RSET") == [250, 503, 250]
    assert client.codes(f"AUTH PLAIN {RIGHT}", "AUTH PLAIN", "EHLO c", "AUTH") == [
        235,
        503,
        250,
        503,
    ]


@pytest.mark.parametrize(
    ("where", "allowInsecure", "isOffered"),
    [
        (LOCAL, True, True),
        (LOCAL, False, False),
        ({"peer": "192.0.2.7", "host": "127.0.0.1"}, True, False),
        ({"peer": "127.0.0.1", "host": "192.0.2.1"}, True, False),
    ],
)
def test_in_clear_it_is_offered_on_loopback_alone_where_the_operator_said_so(
    where: dict[str, str], allowInsecure: bool, isOffered: bool
) -> None:
    client = serve(allowInsecure).connect(**where)
    assert (b"AUTH PLAIN LOGIN" in client.say("EHLO c")) is isOffered
    assert client.codes(f"AUTH PLAIN {RIGHT}") == [235 if isOffered else 538]


def test_in_tls_it_is_offered_to_all() -> None:
    client = serve(False).connect(listener=Listener(isSecure=True))
    client.protocol.handshakeCompleted()
    assert b"AUTH PLAIN LOGIN" in client.say("EHLO c")
    assert client.codes(f"AUTH PLAIN {RIGHT}") == [235]


@pytest.mark.parametrize(
    "line", ["*", "=", "!", "a", "AAA", base64("a", "b"), base64(*"abcd"), "é"]
)
def test_what_is_no_response_ends_the_dialogue_with_501(line: str) -> None:
    client = greeted()
    assert client.codes("AUTH PLAIN", line, "NOOP") == [334, 501, 250]
    assert client.protocol.session.identity is None


def test_an_empty_initial_response_is_said_with_an_equals_sign() -> None:
    assert greeted().codes("AUTH PLAIN =") == [501]
    assert greeted().codes("AUTH LOGIN =", base64("secret")) == [334]


def test_a_wrong_password_is_said_after_a_second_and_counts() -> None:
    client = greeted()
    assert client.codes(f"AUTH PLAIN {WRONG}", "NOOP") == []
    client.clock.advance(0.9)
    assert client.heard() == b""
    client.clock.advance(0.2)
    said = client.heard()
    assert said.startswith(b"535 5.7.8 ")
    assert codesOf(said) == [535, 250]
    for _ in range(20):
        client.say(f"AUTH PLAIN {WRONG}")
        client.clock.advance(1.1)
    assert codesOf(client.heard())[-1] == 421


def test_nobody_acts_for_somebody_else() -> None:
    client = greeted()
    client.say(f"AUTH PLAIN {base64('bob@example.org', 'alice@example.org', 'secret')}")
    client.clock.advance(1.1)
    assert codesOf(client.heard()) == [535]
    own = base64("alice@example.org", "alice@example.org", "secret")
    assert client.codes(f"AUTH PLAIN {own}") == [235]


def test_who_goes_while_it_waits_leaves_nothing_behind() -> None:
    client = greeted()
    client.say(f"AUTH PLAIN {WRONG}")
    client.leave()
    assert client.clock.getDelayedCalls() == []


def test_a_database_that_is_down_is_421_and_a_busy_one_454() -> None:
    assert greeted().codes(f"AUTH PLAIN {base64('', 'busy', 'x')}", "NOOP") == [454, 250]
    said = greeted().say(f"AUTH PLAIN {base64('', 'down', 'x')}")
    assert said.startswith(b"421 4.3.0 mx.example.org ")


def test_the_51st_try_of_one_address_is_454_and_others_are_not_locked_out() -> None:
    server = serve()
    for _ in range(50):
        client = server.greeted(f"AUTH PLAIN {WRONG}", **LOCAL)
        server.clock.advance(1.1)
        client.leave()
    client = server.greeted(**LOCAL)
    assert client.say(f"AUTH PLAIN {RIGHT}").startswith(b"454 4.7.0 ")
    other = server.greeted(peer="127.0.0.2", host="127.0.0.1")
    assert other.codes(f"AUTH PLAIN {RIGHT}") == [235]
    server.clock.advance(550)
    assert client.codes(f"AUTH PLAIN {RIGHT}") == [235], "some of the 50 are 10 minutes old"


def test_the_response_may_be_as_long_as_the_rfc_allows() -> None:
    client = greeted()
    response = base64("", "x" * 9000, "x")
    assert 12_000 < len(response) < 12_276
    client.say(f"AUTH PLAIN {response}")
    client.clock.advance(1.1)
    assert codesOf(client.heard()) == [535]
    assert client.codes("AUTH PLAIN " + "A" * 12_288) == [500]
    client.say("AUTH PLAIN")
    assert client.codes("A" * 12_288, "NOOP") == [500, 250]


@pytest.mark.parametrize("value", ["AUTH=<>", "AUTH=alice+40example.org", "AUTH=alice@example.org"])
def test_the_sender_may_be_named_with_mail(value: str) -> None:
    assert greeted().codes(f"MAIL FROM:<> {value}") == [250]


@pytest.mark.parametrize("value", ["AUTH", "AUTH=", "AUTH=a+4"])
def test_and_not_just_anyhow(value: str) -> None:
    assert greeted().codes(f"MAIL FROM:<> {value}") == [501]


def test_a_dialogue_opened_before_is_throttled_too() -> None:
    """Else a thousand of them, each one response short, would be a thousand tries."""
    server = serve()
    early = server.greeted("AUTH PLAIN", **LOCAL)
    for _ in range(50):
        client = server.greeted(f"AUTH PLAIN {WRONG}", **LOCAL)
        server.clock.advance(1.1)
        client.leave()
    early.heard()
    assert early.say(RIGHT).startswith(b"454 4.7.0 ")
    assert early.protocol.session.identity is None


def test_a_login_counts_for_this_connection_alone() -> None:
    server = serve()
    server.greeted(f"AUTH PLAIN {RIGHT}", **LOCAL)
    assert server.greeted(**LOCAL).protocol.session.identity is None


@pytest.mark.parametrize("line", [f"{RIGHT}\n", f"{RIGHT}\0\r\n", f"\r{RIGHT}\r\n"])
def test_a_response_keeps_the_rules_of_lines(line: str) -> None:
    """A bare LF, a NUL or a bare CR is as wrong in a dialogue as in a command."""
    client = greeted()
    client.say("AUTH PLAIN")
    [code, noop] = codesOf(client.send(line.encode() + b"NOOP\r\n"))
    assert code in (500, 501)
    assert noop == 250
    assert client.protocol.session.identity is None


def test_what_is_behind_a_response_in_its_segment_waits_for_the_answer() -> None:
    client = greeted()
    client.say("AUTH PLAIN")
    assert client.codes(WRONG, "MAIL FROM:<>", "RSET") == []
    client.clock.advance(1.1)
    assert codesOf(client.heard()) == [535, 250, 250]


@given(st.lists(st.binary(max_size=40), max_size=8), st.sampled_from(["PLAIN", "LOGIN"]))
def test_any_octets_get_replies_of_the_contract(lines: list[bytes], mechanism: str) -> None:
    client = greeted()
    for line in (f"AUTH {mechanism}".encode(), *lines, b64encode(b"\0".join(lines))):
        client.send(line.replace(b"\n", b"") + b"\r\n")
        client.clock.advance(1.1)
    codes = codesOf(client.everything())
    known = {220, 235, 250, 334, 421, 500, 501, 502, 503, 504, 535, 553, 214, 252, 550, 555, 221}
    assert set(codes) <= known
    assert client.protocol.session.identity is None


class TestThrottle:
    def throttle(self) -> tuple[Clock, Throttle]:
        clock = Clock()
        return clock, Throttle(clock.seconds, most=2, window=10)

    def test_it_opens_again_as_failures_grow_old(self) -> None:
        clock, throttle = self.throttle()
        for _ in range(3):
            throttle.failed("192.0.2.1")
            clock.advance(3)
        assert throttle.isClosed("192.0.2.1")
        clock.advance(4.1)
        assert not throttle.isClosed("192.0.2.1")

    @pytest.mark.parametrize(
        ("one", "other", "isSame"),
        [
            ("192.0.2.1", "192.0.2.2", False),
            ("2001:db8::1", "2001:db8::ffff:1", True),
            ("2001:db8::1", "2001:db8:0:1::1", False),
            ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
            ("::ffff:192.0.2.1", "192.0.2.1", True),
            ("", "", True),
        ],
    )
    def test_an_ipv6_client_is_its_network(self, one: str, other: str, isSame: bool) -> None:
        _, throttle = self.throttle()
        throttle.failed(one)
        throttle.failed(one)
        assert throttle.isClosed(other) is isSame

    def test_it_remembers_the_latest_addresses_and_no_more(self) -> None:
        _, throttle = self.throttle()
        for address in range(MAX_ADDRESSES + 1):
            throttle.failed(str(address))
            throttle.failed(str(address))
        assert not throttle.isClosed("0")
        assert throttle.isClosed("1")
        assert throttle.isClosed(str(MAX_ADDRESSES))
