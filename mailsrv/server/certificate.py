"""The server's certificate: TLS 1.2 and 1.3, forward-secret suites only (RFC 3207, RFC 8314)."""

from __future__ import annotations

import os
from typing import Any

from OpenSSL import SSL, crypto
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.internet.ssl import AcceptableCiphers, CertificateOptions, TLSVersion
from twisted.logger import Logger
from zope.interface import implementer

_log = Logger()

# TLS 1.3 has no suite without forward secrecy; these are the ones of TLS 1.2.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"


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
        self._options = _load(*self._files)

    def _stampOfFiles(self) -> tuple[tuple[int, int], ...]:
        return tuple((s.st_mtime_ns, s.st_ino) for s in map(os.stat, self._files))

    def serverConnectionForTLS(self, tlsProtocol: Any) -> SSL.Connection:
        """A connection for one handshake."""
        self._takeUpChanges()
        connection = SSL.Connection(self._options.getContext(), None)
        connection.set_accept_state()
        return connection

    def _takeUpChanges(self) -> None:
        try:
            stamp = self._stampOfFiles()
            if stamp == self._stamp:
                return
            self._stamp = stamp
            self._options = _load(*self._files)
            _log.info("took up the changed certificate {file}", file=self._files[0])
        except (OSError, ValueError) as error:
            _log.error(
                "the changed certificate {file} cannot be used, the old one goes on: {error}",
                file=self._files[0],
                error=error,
            )


def _load(certFile: str, keyFile: str) -> CertificateOptions:
    """Options of certificate, chain and key; ValueError, one line, where they do not fit."""
    with open(certFile, "rb") as file:
        pem = file.read()
    with open(keyFile, "rb") as file:
        keyPem = file.read()
    blocks = [b"-----BEGIN CERTIFICATE" + block for block in pem.split(b"-----BEGIN CERTIFICATE")]
    try:
        chain = [crypto.load_certificate(crypto.FILETYPE_PEM, block) for block in blocks[1:]]
    except crypto.Error as error:
        raise ValueError(f"{certFile} is no PEM certificate") from error
    try:
        key = crypto.load_privatekey(crypto.FILETYPE_PEM, keyPem, passphrase=b"")
    except crypto.Error as error:
        raise ValueError(f"{keyFile} is no PEM private key without a password") from error
    if not chain:
        raise ValueError(f"{certFile} holds no PEM certificate")
    options = CertificateOptions(
        privateKey=key,
        certificate=chain[0],
        extraCertChain=chain[1:],
        raiseMinimumTo=TLSVersion.TLSv1_2,
        acceptableCiphers=AcceptableCiphers.fromOpenSSLCipherString(_CIPHERS),
    )
    try:
        options.getContext().check_privatekey()
    except SSL.Error as error:
        raise ValueError(f"the key {keyFile} does not belong to {certFile}") from error
    return options
