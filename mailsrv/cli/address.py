"""Addresses as arguments, written into the tables as the server looks them up."""

from __future__ import annotations

from typing import Any

import click

from mailsrv.cli.database import Complaint
from mailsrv.smtp.address import NULL_PATH, Mailbox, domainKey, parseMailbox, unquote
from mailsrv.store.queries import Txn
from mailsrv.store.queries.aliases import aliasesByKeyTxn
from mailsrv.store.queries.groups import groupsByKeyTxn
from mailsrv.store.queries.users import usersByKeyTxn

_KINDS = (
    ("user", "a user", usersByKeyTxn),
    ("alias", "an alias", aliasesByKeyTxn),
    ("group", "a group", groupsByKeyTxn),
)


class Address(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """local-part@domain, as a Mailbox without needless quotes, its domain in ASCII.

    `orDomain`: @domain too. `orEmpty`: '' too, for no address.
    """

    name = "address"

    def __init__(self, orDomain: bool = False, orEmpty: bool = False) -> None:
        self._orDomain = orDomain
        self._orEmpty = orEmpty

    def convert(self, value: Any, param: Any, ctx: Any) -> Mailbox:
        if self._orEmpty and not value:
            return NULL_PATH
        isDomain = self._orDomain and value.startswith("@")
        mailbox = parseMailbox(f"x{value}" if isDomain else value)
        if mailbox is None:
            also = ", or @domain for all of a domain" if self._orDomain else ""
            raise Complaint(f"{value!r} is not an address; write local-part@domain{also}")
        local, domain = mailbox.localPart, mailbox.domain
        return Mailbox(
            "" if isDomain else unquote(local), domain if domain.isascii() else domainKey(domain)
        )


def refuseTaken(txn: Txn, address: Mailbox) -> None:
    """Complain where the address is a user, an alias or a group already: one would hide the
    other."""
    for kind, what, query in _KINDS:
        if query(txn, [address.key]):
            raise Complaint(
                f"{address} is {what} already; see: smtpstore {kind} list,"
                f" or remove it first: smtpstore {kind} remove {address}"
            )


def unknown(kind: str, address: Mailbox) -> Complaint:
    """The complaint that nobody of this kind has the address."""
    return Complaint(f"there is no {kind} {address}; see: smtpstore {kind} list")
