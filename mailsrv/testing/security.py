"""TLS and logins of a MailServer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from zope.interface import implementer

from mailsrv.store.credentials import LoginRealm


def certificateIn(folder: Path, hostname: str) -> tuple[IOpenSSLServerConnectionCreator, Path]:
    """A new certificate for `hostname`, localhost and 127.0.0.1, and the PEM file it is in.

    Raises RuntimeError where the packages for TLS are missing.
    """
    try:
        from mailsrv.server.certificate import FixedCertificate
        from mailsrv.server.selfsigned import selfSigned
    except ImportError as error:
        raise RuntimeError("TLS needs pyOpenSSL: pip install 'smtpstore[tls]'") from error
    certificate, key = selfSigned(hostname)
    file = folder / "certificate.pem"
    file.write_bytes(certificate)
    return FixedCertificate(certificate, key), file


def portalOf(logins: Mapping[str, str]) -> Portal:
    """Lets in who is there with this password, known by that name."""
    return Portal(LoginRealm(), [_Logins(logins)])


@implementer(ICredentialsChecker)
class _Logins:
    """Names and passwords, in UTF-8."""

    credentialInterfaces = (IUsernamePassword,)

    def __init__(self, logins: Mapping[str, str]) -> None:
        self._logins = {name.encode(): password.encode() for name, password in logins.items()}

    def requestAvatarId(self, credentials: IUsernamePassword) -> Deferred[bytes | tuple[()]]:
        name: bytes = credentials.username
        isRight = self._logins.get(name) == credentials.password
        return succeed(name) if isRight else fail(UnauthorizedLogin())
