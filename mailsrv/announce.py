"""What a server says in its log when it starts: where it listens, and where mail goes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from twisted.internet.address import UNIXAddress
from twisted.internet.interfaces import IAddress
from twisted.logger import Logger

from mailsrv.server.site import Listener
from mailsrv.settings import Settings

_log = Logger(namespace="smtpstore")


def announcePorts(settings: Settings, addresses: Sequence[IAddress]) -> None:
    """Say where it listens; `addresses`: of the settings' ports, in their order."""
    for port, address in zip(settings.ports, addresses, strict=True):
        _log.info("{name} listens on {address}", name=port.name, address=showAddress(address))
    if settings.tlsAuto:
        _log.warn("The certificate is made by --tls auto: for trying out, nobody trusts it")
    elif settings.tlsCert is not None:
        _warnOfCertificate(settings.tlsCert)


def _warnOfCertificate(file: str) -> None:
    """Most that send mail do not look at it, so an old one is no reason to refuse theirs."""
    from mailsrv.server.validity import validityOf

    with suppress(OSError, ValueError):  # who opened it before the start has told of those
        trouble = validityOf(file).trouble(datetime.now(UTC))
        if trouble is not None:
            _log.warn("The certificate {file}: {trouble}; renew it", file=file, trouble=trouble)


def announceMail(settings: Settings, database: str, addresses: Sequence[IAddress]) -> None:
    """Say where mail goes, and how to try it."""
    _log.info("Mail goes to {database}", database=database)
    if settings.domains:
        _log.info(
            "Local domains: {domains}; add a user with: smtpstore user add ADDRESS",
            domains=", ".join(settings.domains),
        )
    else:
        _log.info("No --domain is given: every recipient is accepted and stored (a sink)")
        _showHint(settings, addresses)


def _showHint(settings: Settings, addresses: Sequence[IAddress]) -> None:
    for port, address in zip(settings.ports, addresses, strict=True):
        if port.listener == Listener() and not isinstance(address, UNIXAddress):
            _log.info(
                "Try it: echo Hello | curl --crlf smtp://{address} --mail-from me@example.com"
                " --mail-rcpt you@example.com --upload-file -",
                address=showAddress(address),
            )
            return


def showAddress(address: IAddress) -> str:
    """The address as people write it: host:port, [host]:port or a path."""
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"a socket without a name")
    host, port = getattr(address, "host", "?"), getattr(address, "port", "?")
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
