"""What the doctor finds about the certificate."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from mailsrv.process import StartError
from mailsrv.rules import certificateOf
from mailsrv.settings import Settings
from mailsrv.store.dialect import Finding

_USED = "STARTTLS is offered where certificate and key can be read and belong together"
_VALID = "clients that verify the server connect while its certificate is valid, and is its own"


def certificateFindings(settings: Settings) -> Iterator[Finding]:
    """Whether it can be used, is valid, and names this host; nothing where there is none."""
    if settings.tlsCert is None:
        return
    try:
        certificateOf(settings)
    except StartError as error:
        yield Finding("certificate", f"not usable ({error})", False, _USED, "name the right files")
        return
    from mailsrv.server.validity import validityOf

    validity = validityOf(settings.tlsCert)
    trouble = validity.trouble(datetime.now(UTC))
    until = f"valid until {validity.expiresAt:%Y-%m-%d}"
    yield Finding("certificate", trouble or until, trouble is None, _VALID, "renew it")
    names = ", ".join(validity.names) or "nobody"
    yield Finding(
        "certificate's names",
        names,
        validity.isFor(settings.hostname),
        _VALID,
        f"get one for {settings.hostname}, or give --hostname the name that clients connect to",
    )
