"""What a certificate may be, and what is said of one that will not do."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyObject

from mailsrv.extensions.standard import standardExtensions
from mailsrv.extensions.starttls import StartTlsServer
from mailsrv.server.certificate import Certificate, FixedCertificate
from mailsrv.server.selfsigned import selfSigned
from mailsrv.server.site import Listener
from smtpconversation import Server, Wire, addressOf

CERT, KEY = selfSigned("mx.example.org")
OTHER_CERT, OTHER_KEY = selfSigned("other.example.org")


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.write_bytes(CERT)
    key.write_bytes(KEY)
    return certificate, key


def shown(creator: Any) -> bytes:
    """The certificate that a handshake would show."""
    connection = creator.serverConnectionForTLS(None)
    certificate = connection.get_certificate(as_cryptography=True)
    octets: bytes = certificate.public_bytes(Encoding.PEM)
    return octets


def test_it_makes_connections_as_twisted_wants_them(files: tuple[Path, Path]) -> None:
    for creator in (Certificate(*map(str, files)), FixedCertificate(CERT, KEY)):
        verifyObject(IOpenSSLServerConnectionCreator, creator)
        assert shown(creator) == CERT


def test_the_chain_is_shown_with_it_and_a_key_in_the_same_file_is_no_harm() -> None:
    assert shown(FixedCertificate(CERT + OTHER_CERT + KEY, CERT + KEY)) == CERT


def encrypted() -> bytes:
    done = subprocess.run(
        ["openssl", "pkcs8", "-topk8", "-passout", "pass:secret"],
        input=KEY,
        capture_output=True,
        check=True,
        timeout=20,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("certificate", "key", "says"),
    [
        (b"", KEY, "c.pem is no PEM certificate"),
        (KEY, KEY, "c.pem is no PEM certificate"),
        (CERT[:200], KEY, "c.pem is no PEM certificate"),
        (CERT, b"", "k.pem is no PEM private key without a password"),
        (CERT, CERT, "k.pem is no PEM private key without a password"),
        (CERT, encrypted(), "k.pem is no PEM private key without a password"),
        (CERT, OTHER_KEY, "the key k.pem does not belong to c.pem"),
    ],
    ids=["empty", "a key", "cut off", "no key", "no private key", "password", "another's key"],
)
def test_what_cannot_be_used_is_said_in_a_line(certificate: bytes, key: bytes, says: str) -> None:
    with pytest.raises(ValueError, match="^" + says.replace(".", r"\.") + "$"):
        FixedCertificate(certificate, key, "c.pem", "k.pem")


def test_a_file_that_is_not_there_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Certificate(str(tmp_path / "c"), str(tmp_path / "k"))


def test_changed_files_are_taken_up_once_they_fit_and_a_fault_is_logged_once(
    files: tuple[Path, Path],
) -> None:
    creator = Certificate(*map(str, files))
    lines: list[Any] = []
    globalLogPublisher.addObserver(lines.append)
    try:
        files[0].unlink()
        assert shown(creator) == shown(creator) == CERT
        files[0].write_bytes(OTHER_CERT)
        assert shown(creator) == shown(creator) == CERT
        files[1].write_bytes(OTHER_KEY)
        assert shown(creator) == OTHER_CERT
    finally:
        globalLogPublisher.removeObserver(lines.append)
    texts = [line["log_format"].split()[:4] for line in lines]
    assert texts == [
        ["the", "changed", "certificate", "{file}"],
        ["the", "changed", "certificate", "{file}"],
        ["took", "up", "the", "changed"],
    ]
    assert not any("PRIVATE" in str(line) for line in lines)


def test_the_one_made_for_trying_out_names_the_host_and_loopback() -> None:
    certificate = x509.load_pem_x509_certificate(CERT)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["mx.example.org", "localhost"]
    assert sorted(map(str, names.get_values_for_type(x509.IPAddress))) == ["127.0.0.1", "::1"]
    assert load_pem_private_key(KEY, None).public_key() == certificate.public_key()
    assert KEY != OTHER_KEY


def test_a_host_name_of_any_length_will_do() -> None:
    name = ".".join(["x" * 60] * 4)
    certificate = x509.load_pem_x509_certificate(selfSigned(name)[0])
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName)[0] == name


# The time a handshake may take


class TlsWire(Wire):
    """A connection whose client never begins the handshake that STARTTLS asks for."""

    tls: Any = None

    def startTLS(self, creator: Any) -> None:
        self.tls = creator


def connect(listener: Listener) -> tuple[Clock, TlsWire, Any]:
    creator = FixedCertificate(CERT, KEY)
    server = Server(tls=creator, extensions=[*standardExtensions(), StartTlsServer()])
    wire = TlsWire(addressOf("192.0.2.1", 25), addressOf("192.0.2.7"))
    return server.clock, wire, server.connectBy(wire, listener)


@pytest.mark.parametrize("kind", ["STARTTLS", "implicit"])
def test_a_handshake_that_does_not_come_frees_the_connection_in_half_a_minute(kind: str) -> None:
    clock, wire, client = connect(Listener(isSecure=kind == "implicit"))
    if kind == "STARTTLS":
        client.say("EHLO c")
        clock.advance(100)
        assert client.say("STARTTLS", "NOOP").startswith(b"220 2.0.0 ")
        assert wire.tls is client.protocol.factory.site.tls
    for _ in range(29):
        clock.advance(1)
    assert not wire.ending
    clock.advance(2)
    assert wire.ending == "aborted"
    assert b"421" not in client.heard()


def test_a_policy_and_a_login_see_a_new_session_behind_starttls() -> None:
    _, _, client = connect(Listener())
    client.say("EHLO before.example.net", "MAIL FROM:<a@example.net>", "STARTTLS")
    session = client.protocol.session
    client.protocol.handshakeCompleted()
    assert (session.helo, session.isExtended, session.transaction) == ("", False, None)
    assert session.isSecure
    assert client.codes("MAIL FROM:<>", "RCPT TO:<a@b.c>", "EHLO c", "MAIL FROM:<>") == [
        *(503, 503, 250, 250)
    ]
