"""The server's certificate: TLS 1.2 and 1.3, forward-secret suites only (RFC 3207, RFC 8314)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from OpenSSL import SSL
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.logger import Logger
from zope.interface import implementer

_log = Logger()

# TLS 1.3 has no suite without forward secrecy; these are the ones of TLS 1.2.
_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20"
_OPTIONS = (
    SSL.OP_NO_COMPRESSION
    | SSL.OP_NO_RENEGOTIATION
    | SSL.OP_CIPHER_SERVER_PREFERENCE
    | SSL.OP_NO_TICKET  # its key would outlive forward secrecy
)


@implementer(IOpenSSLServerConnectionCreator)
class Certificate:
    """A PEM certificate (with its chain) and its key; changed files are taken up by themselves.

    Raises OSError or ValueError where the files cannot be used at the start. Later, files that
    cannot be used leave the certificate as it was, and are logged once. Connections under way
    keep what they have.
    """

    def __init__(self, certFile: str, keyFile: str) -> None:
        self._files = (certFile, keyFile)
        self._stamp = self._stampOfFiles()
        self._pair = self._read()

    def _stampOfFiles(self) -> tuple[tuple[int, int] | None, ...]:
        return tuple(map(_stampOf, self._files))

    def _read(self) -> FixedCertificate:
        certificate, key = (Path(file).read_bytes() for file in self._files)
        return FixedCertificate(certificate, key, *self._files)

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """A connection for one handshake."""
        self._takeUpChanges()
        return self._pair.serverConnectionForTLS(tlsProtocol)

    def _takeUpChanges(self) -> None:
        stamp = self._stampOfFiles()
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._pair = self._read()
        except (OSError, ValueError) as error:
            _log.error(
                "the changed certificate {file} cannot be used, the old one goes on: {error}",
                file=self._files[0],
                error=error,
            )
        else:
            _log.info("took up the changed certificate {file}", file=self._files[0])


def _stampOf(file: str) -> tuple[int, int] | None:
    """What differs once the file has changed, or its rights have; None where it is not there."""
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_ctime_ns, found.st_ino


@implementer(IOpenSSLServerConnectionCreator)
class FixedCertificate:
    """A PEM certificate, with its chain, and its key, as they are now.

    Raises ValueError, one line, where they cannot be used; `certName` and `keyName` stand in it.
    """

    def __init__(
        self,
        certificate: bytes,
        key: bytes,
        certName: str = "the certificate",
        keyName: str = "the key",
    ) -> None:
        try:
            chain = x509.load_pem_x509_certificates(certificate)
        except ValueError as error:
            raise ValueError(f"{certName} is no PEM certificate") from error
        try:
            privateKey: Any = load_pem_private_key(key, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise ValueError(f"{keyName} is no PEM private key without a password") from error
        self._context = context = SSL.Context(SSL.TLS_SERVER_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)
        context.set_cipher_list(_CIPHERS)
        context.set_options(_OPTIONS)
        context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
        try:
            context.use_certificate(chain[0])
            for each in chain[1:]:
                context.add_extra_chain_cert(each)
            context.use_privatekey(privateKey)
            context.check_privatekey()
        except SSL.Error as error:
            raise ValueError(f"the key {keyName} does not belong to {certName}") from error

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """A connection for one handshake."""
        connection = SSL.Connection(self._context, None)
        connection.set_accept_state()
        return connection
