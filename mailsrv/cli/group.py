"""smtpstore group: mailing groups and their members."""

from __future__ import annotations

from collections.abc import Iterable

import click

from mailsrv.cli.address import Address, refuseTaken, unknown
from mailsrv.cli.database import Complaint, Database, withDatabase
from mailsrv.cli.output import jsonOption, printRows
from mailsrv.smtp.address import Mailbox
from mailsrv.store.queries import Txn
from mailsrv.store.queries.groups import (
    Group,
    addGroupTxn,
    groupTxn,
    joinGroupTxn,
    leaveGroupTxn,
    listGroupsTxn,
    removeGroupTxn,
)
from mailsrv.store.queries.recipients import addressKey

_ADDRESS = click.argument("address", type=Address())
_MEMBERS = click.argument("members", metavar="MEMBER...", type=Address(), nargs=-1, required=True)


@click.group()
def group() -> None:
    """Mailing groups: one address, many members, here or elsewhere.

    \b
    Examples:
      smtpstore group add staff@example.com bob@example.com ann@example.com
      smtpstore group join staff@example.com joe@elsewhere.org
      smtpstore group show staff@example.com
      smtpstore group list --json
      smtpstore group leave staff@example.com ann@example.com
      smtpstore group remove staff@example.com
    """


@group.command()
@withDatabase
@_ADDRESS
@click.argument("members", metavar="[MEMBER]...", type=Address(), nargs=-1)
@click.option("--name", default="", help="What people call it.")
@jsonOption
def add(
    database: Database, address: Mailbox, members: tuple[Mailbox, ...], name: str, asJson: bool
) -> None:
    """Make the group ADDRESS."""
    with database.transaction() as txn:
        refuseTaken(txn, address)
        addGroupTxn(txn, str(address), name)
        made = _joined(txn, _group(txn, address), members)
    _print([made], asJson)


@group.command("list")
@withDatabase
@jsonOption
def listGroups(database: Database, asJson: bool) -> None:
    """Show all groups."""
    with database.transaction() as txn:
        groups = listGroupsTxn(txn)
    _print(groups, asJson)


@group.command()
@withDatabase
@_ADDRESS
@jsonOption
def show(database: Database, address: Mailbox, asJson: bool) -> None:
    """Show the members of the group ADDRESS."""
    with database.transaction() as txn:
        shown = _group(txn, address)
    rows = [{"group_id": shown.id, "address": member} for member in shown.members]
    printRows(rows, ["address"], asJson)


@group.command()
@withDatabase
@_ADDRESS
@_MEMBERS
@jsonOption
def join(database: Database, address: Mailbox, members: tuple[Mailbox, ...], asJson: bool) -> None:
    """Add members to the group ADDRESS; who is one already stays one."""
    with database.transaction() as txn:
        changed = _joined(txn, _group(txn, address), members)
    _print([changed], asJson)


@group.command()
@withDatabase
@_ADDRESS
@_MEMBERS
@jsonOption
def leave(database: Database, address: Mailbox, members: tuple[Mailbox, ...], asJson: bool) -> None:
    """Take members out of the group ADDRESS."""
    with database.transaction() as txn:
        before = _group(txn, address)
        keys = {addressKey(member) for member in before.members}
        for member in members:
            if member.key not in keys:
                raise Complaint(
                    f"{member} is no member of {address}; see: smtpstore group show {address}"
                )
        leaveGroupTxn(txn, before, [member.key for member in members])
        changed = _group(txn, address)
    _print([changed], asJson)


@group.command()
@withDatabase
@_ADDRESS
@jsonOption
def remove(database: Database, address: Mailbox, asJson: bool) -> None:
    """Remove the group ADDRESS."""
    with database.transaction() as txn:
        removed = _group(txn, address)
        removeGroupTxn(txn, removed)
    _print([removed], asJson)


def _group(txn: Txn, address: Mailbox) -> Group:
    found = groupTxn(txn, address.key)
    if found is None:
        raise unknown("group", address)
    return found


def _joined(txn: Txn, before: Group, members: Iterable[Mailbox]) -> Group:
    known = {addressKey(member) for member in before.members}
    new: dict[str, str] = {}
    for member in members:
        if member.key == addressKey(before.address):
            raise Complaint(f"{member} would be a member of itself; leave it out")
        if member.key not in known:
            new.setdefault(member.key, str(member))
    joinGroupTxn(txn, before, new.values())
    return Group(before.id, before.address, before.name, (*before.members, *new.values()))


def _print(groups: Iterable[Group], asJson: bool) -> None:
    rows = [
        {
            "id": row.id,
            "address": row.address,
            "name": row.name,
            "members": row.members if asJson else len(row.members),
        }
        for row in groups
    ]
    printRows(rows, ["address", "name", "members"], asJson)
