"""A client and a server with real TLS on loopback, for tests of what they trust."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from ipaddress import ip_address
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL.crypto import FILETYPE_PEM
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint
from twisted.internet.protocol import Factory
from twisted.internet.ssl import Certificate, KeyPair, PrivateCertificate, trustRootFromCertificates
from twisted.protocols.basic import LineReceiver

LIMIT = 20.0  # seconds a test may wait for anything


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


@lru_cache
def _authority() -> tuple[Any, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    return key, _signed(_name("test CA"), key.public_key(), _name("test CA"), key, isAuthority=True)


def _signed(
    subject: x509.Name, public: Any, issuer: x509.Name, key: Any, isAuthority: bool, host: str = ""
) -> x509.Certificate:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=isAuthority, path_length=None), critical=True)
    )
    if host:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([_alternative(host)]), critical=False
        )
    return builder.sign(key, hashes.SHA256())


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@lru_cache
def certificateFor(host: str) -> Any:
    """What a server shows that is `host`, signed by the CA of the tests."""
    authorityKey, authority = _authority()
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = _signed(_name(host), key.public_key(), authority.subject, authorityKey, False, host)
    keyPem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pair = KeyPair.load(keyPem, FILETYPE_PEM)
    return PrivateCertificate.fromCertificateAndKeyPair(
        Certificate.loadPEM(leaf.public_bytes(serialization.Encoding.PEM)), pair
    ).options()


def trustRoot() -> Any:
    """The CA of the tests, as a client trusts it."""
    pem = _authority()[1].public_bytes(serialization.Encoding.PEM)
    return trustRootFromCertificates([Certificate.loadPEM(pem)])


Answer = bytes | Callable[["Peer"], None]


class Peer(LineReceiver):
    """A server that answers each verb as it is told; what it hears is kept, apart in TLS."""

    MAX_LENGTH = 100_000

    def __init__(self, script: Mapping[str, Answer], factory: PeerFactory) -> None:
        self.script = script
        self.factory = factory
        self.isSecure = False

    def connectionMade(self) -> None:
        self.factory.peers.append(self)
        self.answer("CONNECT")

    def connectionLost(self, reason: Any = None) -> None:
        self.factory.gone.callback(None)

    def lineReceived(self, line: bytes) -> None:
        (self.factory.secure if self.isSecure else self.factory.clear).append(line)
        self.answer(line.split(b" ")[0].decode("latin-1").upper())

    def answer(self, verb: str) -> None:
        prefix = "TLS " if self.isSecure else ""
        answer = self.script.get(prefix + verb, self.script.get(verb, b"500 what?\r\n"))
        if callable(answer):
            answer(self)
        else:
            self.transport.write(answer)

    def startTLS(self, reply: bytes = b"220 go\r\n", host: str = "mx.example") -> None:
        self.transport.write(reply)
        self.transport.startTLS(certificateFor(host))
        self.isSecure = True


class PeerFactory(Factory):
    noisy = False

    def __init__(self, script: Mapping[str, Answer]) -> None:
        self.script = script
        self.clear: list[bytes] = []
        self.secure: list[bytes] = []
        self.peers: list[Peer] = []
        self.gone: Deferred[None] = Deferred()

    def buildProtocol(self, addr: Any) -> Peer:
        return Peer(self.script, self)


class Listening:
    """`async with Listening(factory) as endpoint`: a port on loopback, closed at the end."""

    def __init__(self, factory: Any) -> None:
        self.factory = factory

    async def __aenter__(self) -> TCP4ClientEndpoint:
        from twisted.internet import reactor

        server = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        self.port = await server.listen(self.factory)
        return TCP4ClientEndpoint(reactor, "127.0.0.1", self.port.getHost().port)

    async def __aexit__(self, *exc: object) -> None:
        await self.port.stopListening()
