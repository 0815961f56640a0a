"""How long a certificate goes on, and whom it is for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.x509.oid import NameOID

SOON = timedelta(days=14)


@dataclass(frozen=True, slots=True)
class Validity:
    """`startsAt`, `expiresAt`: aware, UTC. `names`: of hosts, `*.` for any in a domain."""

    startsAt: datetime
    expiresAt: datetime
    names: tuple[str, ...]

    def trouble(self, now: datetime) -> str | None:
        """Why clients that look at the certificate will not take it, now or soon."""
        if now < self.startsAt:
            return f"it is valid from {self.startsAt:%Y-%m-%d}"
        if now >= self.expiresAt:
            return f"it has expired on {self.expiresAt:%Y-%m-%d}"
        if now >= self.expiresAt - SOON:
            return f"it expires soon, on {self.expiresAt:%Y-%m-%d}"
        return None

    def isFor(self, hostname: str) -> bool:
        """Whether it is a certificate of the host's (RFC 9525 §6.3)."""
        host = hostname.lower()
        names = {name.lower() for name in self.names}
        return host in names or f"*.{host.partition('.')[2]}" in names


def validityOf(file: str) -> Validity:
    """That of the first certificate in a PEM file; raises OSError or ValueError."""
    certificate = x509.load_pem_x509_certificate(Path(file).read_bytes())
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        names = alternatives.value.get_values_for_type(x509.DNSName)
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        names = [str(each.value) for each in common]
    return Validity(certificate.not_valid_before_utc, certificate.not_valid_after_utc, tuple(names))
