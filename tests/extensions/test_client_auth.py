"""Logging in, from the client's side."""

from __future__ import annotations

import pytest

from clientconversation import ClientConversation, failed
from mailsrv.extensions.auth import AuthClient
from mailsrv.smtp import local
from mailsrv.smtp.reply import reply


def begun(offer: bytes, **options) -> tuple:
    it = ClientConversation([AuthClient("wäldo", "krokodil", allowInsecure=True, **options)])
    return it, it.connect(b"250-mx\r\n250 " + offer + b"\r\n")


def test_plain_where_it_is_offered():
    it, connected = begun(b"AUTH LOGIN PLAIN")
    it.play((b"AUTH PLAIN AHfDpGxkbwBrcm9rb2RpbA==\r\n", b"235 2.7.0 ok\r\n"))
    assert connected.called
    assert it.client.isConnected


def test_login_where_only_that_is_offered():
    it, connected = begun(b"AUTH cram-md5 login")
    it.play(
        (b"AUTH LOGIN\r\n", b"334 VXNlcm5hbWU6\r\n"), (b"d8OkbGRv\r\n", b"334 UGFzc3dvcmQ6\r\n")
    )
    assert not connected.called
    it.play((b"a3Jva29kaWw=\r\n", b"235 2.7.0 ok\r\n"))
    assert it.client.isConnected


@pytest.mark.parametrize("offer", [b"AUTH CRAM-MD5", b"AUTH", b"SIZE"])
def test_no_mail_goes_without_the_login_that_was_asked_for(offer):
    it, connected = begun(offer)
    assert failed(connected) == local.AUTH_NOT_OFFERED
    it.hear(b"QUIT\r\n")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"535 5.7.8 wrong\r\n", reply(535, "5.7.8", "wrong")),
        (b"454 4.7.0 later\r\n", reply(454, "4.7.0", "later")),
        (b"334 \r\n", local.outOfPlace(reply(334, "", ""))),
    ],
)
def test_credentials_that_are_not_accepted_end_the_connection(answer, said):
    it, connected = begun(b"AUTH PLAIN")
    it.wire.clear()
    it.say(answer)
    assert failed(connected) == said
    it.hear(b"QUIT\r\n")


@pytest.mark.parametrize(
    ("offer", "answers"),
    [
        (b"AUTH PLAIN", [b"501 5.5.4 AUTH PLAIN AHfDpGxkbwBrcm9rb2RpbA==: what?\r\n"]),
        (b"AUTH PLAIN", [b"535-5.7.8 wrong\r\n535 5.7.8 your krokodil is\r\n"]),
        (b"AUTH LOGIN", [b"334 \r\n", b"334 \r\n", b"500 5.5.1 a3Jva29kaWw=\r\n"]),
    ],
)
def test_credentials_that_come_back_in_a_reply_go_no_further(offer, answers):
    it, connected = begun(offer)
    for answer in answers:
        it.say(answer)
    said = failed(connected)
    assert said.code == int(answers[-1][:3])
    assert said.enhanced.startswith("5.")
    for secret in ("krokodil", "AHfDpGxkbwBrcm9rb2RpbA", "a3Jva29kaWw"):
        assert secret not in str(said)


def test_what_else_is_said_of_a_login_is_heard():
    it, connected = begun(b"AUTH LOGIN")
    it.say(b"504 5.5.4 LOGIN is not for you\r\n")
    assert failed(connected) == reply(504, "5.5.4", "LOGIN is not for you")


def test_a_name_that_is_not_accepted_keeps_the_password_back():
    it, connected = begun(b"AUTH LOGIN")
    it.wire.clear()
    it.say(b"334 VXNlcm5hbWU6\r\n")
    it.say(b"501 5.5.2 no\r\n")
    assert failed(connected).code == 501
    it.hear(b"d8OkbGRv\r\nQUIT\r\n")


def test_credentials_are_not_said_in_clear():
    it = ClientConversation([AuthClient("waldo", "krokodil")])
    connected = it.connect(b"250-mx\r\n250 AUTH PLAIN\r\n")
    assert failed(connected) == local.TLS_FOR_CREDENTIALS
    it.hear(b"QUIT\r\n")


@pytest.mark.parametrize(("name", "password"), [("a\0b", "x"), ("a", "x\0y")])
def test_a_nul_would_end_the_name(name, password):
    with pytest.raises(ValueError, match="NUL"):
        AuthClient(name, password)


def test_a_password_does_not_stand_in_what_is_shown_of_the_object():
    assert "krokodil" not in repr(AuthClient("waldo", "krokodil"))
