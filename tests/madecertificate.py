"""Certificates for tests that look at what stands in them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


def certificate(
    place: Path, start: datetime, name: str = "mail.example.com", hasAlternatives: bool = True
) -> tuple[Path, Path]:
    """A certificate of 365 days from `start`, and its key."""

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + timedelta(days=365))
    )
    if hasAlternatives:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(alternatives, critical=False)
    made = builder.sign(key, hashes.SHA256())
    (place / "c.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (place / "k.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return place / "c.pem", place / "k.pem"
