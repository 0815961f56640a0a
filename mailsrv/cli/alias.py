"""smtpstore alias: names for other addresses."""

from __future__ import annotations

from collections.abc import Iterable

import click

from mailsrv.cli.address import Address, refuseTaken, unknown
from mailsrv.cli.database import Complaint, Database, withDatabase
from mailsrv.cli.output import jsonOption, printRows
from mailsrv.smtp.address import Mailbox
from mailsrv.store.queries.aliases import (
    Alias,
    addAliasTxn,
    aliasesByKeyTxn,
    listAliasesTxn,
    removeAliasTxn,
)

_ADDRESS = Address(orDomain=True)


@click.group()
def alias() -> None:
    """Names for other addresses, here or elsewhere; @domain catches all the rest of a domain.

    \b
    Examples:
      smtpstore alias add sales@example.com bob@example.com
      smtpstore alias add @example.com bob@example.com
      smtpstore alias list
      smtpstore alias remove @example.com
    """


@alias.command()
@withDatabase
@click.argument("address", type=_ADDRESS)
@click.argument("target", type=Address())
@jsonOption
def add(database: Database, address: Mailbox, target: Mailbox, asJson: bool) -> None:
    """Lead ADDRESS (or @domain) to TARGET."""
    if address.key == target.key:
        raise Complaint(f"{address} would lead to itself; give another target")
    row = Alias(str(address), str(target))
    with database.transaction() as txn:
        refuseTaken(txn, address)
        addAliasTxn(txn, row)
    _print([row], asJson)


@alias.command("list")
@withDatabase
@jsonOption
def listAliases(database: Database, asJson: bool) -> None:
    """Show all aliases."""
    with database.transaction() as txn:
        aliases = listAliasesTxn(txn)
    _print(aliases, asJson)


@alias.command()
@withDatabase
@click.argument("address", type=_ADDRESS)
@jsonOption
def remove(database: Database, address: Mailbox, asJson: bool) -> None:
    """Remove the alias ADDRESS."""
    with database.transaction() as txn:
        row = aliasesByKeyTxn(txn, [address.key]).get(address.key)
        if row is None:
            raise unknown("alias", address)
        removeAliasTxn(txn, address.key)
    _print([row], asJson)


def _print(aliases: Iterable[Alias], asJson: bool) -> None:
    rows = [{"address": row.address, "target": row.target} for row in aliases]
    printRows(rows, ["address", "target"], asJson)
