"""smtpstore user: who receives mail here."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import click

from mailsrv.cli.address import Address, refuseTaken, unknown
from mailsrv.cli.database import Complaint, Database, withDatabase
from mailsrv.cli.output import isoTime, jsonOption, printRows, say
from mailsrv.smtp.address import Mailbox
from mailsrv.store.queries import Txn
from mailsrv.store.queries.users import (
    User,
    addUserTxn,
    changeUserTxn,
    listUsersTxn,
    removeUserTxn,
    setPasswordTxn,
    userTxn,
)

_ADDRESS = click.argument("address", type=Address())
_PASSWORD = click.option(
    "--password-stdin", "fromStdin", is_flag=True, help="Read the password from standard input."
)
_OPTIONS = (
    click.option("--name", help="The full name."),
    click.option(
        "--forward-to",
        "forwardTo",
        type=Address(orEmpty=True),
        help="Send the mail on to this address, and tell the sender.",
    ),
    click.option("--keep/--no-keep", default=None, help="Keep a copy of what is sent on."),
    click.option(
        "--moved-to",
        "movedTo",
        type=Address(orEmpty=True),
        help="Refuse mail, and tell the sender to try this address.",
    ),
    _PASSWORD,
)


def _withOptions(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@click.group()
def user() -> None:
    """Users: who receives mail here, and who may log in.

    \b
    Examples:
      smtpstore user add bob@example.com --name "Bob Miller"
      smtpstore user passwd bob@example.com
      smtpstore user set bob@example.com --forward-to bob@elsewhere.org --keep
      smtpstore user set bob@example.com --forward-to ''
      smtpstore user list --json
      smtpstore user remove bob@example.com
    """


@user.command()
@withDatabase
@_ADDRESS
@_withOptions
@jsonOption
def add(
    database: Database, address: Mailbox, fromStdin: bool, asJson: bool, **changes: Any
) -> None:
    """Add the user ADDRESS; without a password nobody can log in as this user."""
    new = _changed(User(0, str(address)), **changes)
    passwordHash = _hash(_readPassword()) if fromStdin else None
    with database.transaction() as txn:
        refuseTaken(txn, address)
        addUserTxn(txn, new, passwordHash)
        added = _user(txn, address)
    _print([added], asJson)


@user.command("set")
@withDatabase
@_ADDRESS
@_withOptions
@jsonOption
def change(
    database: Database, address: Mailbox, fromStdin: bool, asJson: bool, **changes: Any
) -> None:
    """Change the user ADDRESS; '' takes a name or an address away."""
    passwordHash = _hash(_readPassword()) if fromStdin else None
    with database.transaction() as txn:
        before = _user(txn, address)
        changeUserTxn(txn, _changed(before, **changes))
        if passwordHash is not None:
            setPasswordTxn(txn, before, passwordHash)
        after = _user(txn, address)
    _print([after], asJson)


@user.command("list")
@withDatabase
@jsonOption
def listUsers(database: Database, asJson: bool) -> None:
    """Show all users; password hashes are not shown."""
    with database.transaction() as txn:
        users = listUsersTxn(txn)
    _print(users, asJson)


@user.command()
@withDatabase
@_ADDRESS
@_PASSWORD
@jsonOption
def passwd(database: Database, address: Mailbox, fromStdin: bool, asJson: bool) -> None:
    """Set the password of the user ADDRESS."""
    with database.transaction() as txn:
        _user(txn, address)
    passwordHash = _hash(_readPassword() if fromStdin else _askPassword())
    with database.transaction() as txn:
        setPasswordTxn(txn, _user(txn, address), passwordHash)
        changed = _user(txn, address)
    if asJson:
        _print([changed], asJson)
    else:
        say(f"{changed.address} has a new password")


@user.command()
@withDatabase
@_ADDRESS
@jsonOption
def remove(database: Database, address: Mailbox, asJson: bool) -> None:
    """Remove the user ADDRESS; the mail stays in the tables."""
    with database.transaction() as txn:
        removed = _user(txn, address)
        removeUserTxn(txn, removed)
    _print([removed], asJson)


def _user(txn: Txn, address: Mailbox) -> User:
    found = userTxn(txn, address.key)
    if found is None:
        raise unknown("user", address)
    return found


def _changed(
    before: User,
    name: str | None,
    forwardTo: Mailbox | None,
    keep: bool | None,
    movedTo: Mailbox | None,
) -> User:
    """The user with what was said changed; None: not said. Forwarded and moved exclude one
    another, and the newer word counts."""
    after = before
    if name is not None:
        after = replace(after, name=name)
    if forwardTo and str(forwardTo) and movedTo and str(movedTo):
        raise Complaint("--forward-to and --moved-to exclude one another; give one of them")
    if forwardTo is not None:
        moved = None if str(forwardTo) else after.movedTo
        after = replace(after, forwardTo=str(forwardTo) or None, movedTo=moved)
    if movedTo is not None:
        forward = None if str(movedTo) else after.forwardTo
        after = replace(after, movedTo=str(movedTo) or None, forwardTo=forward)
    if keep and not after.forwardTo:
        raise Complaint("--keep is about mail that is sent on; give --forward-to too")
    return replace(after, keep=bool(after.forwardTo) and (after.keep if keep is None else keep))


def _readPassword() -> str:
    line = sys.stdin.buffer.readline().rstrip(b"\r\n")
    try:
        password = line.decode()
    except UnicodeDecodeError:
        raise Complaint("the password on standard input is not UTF-8; convert it") from None
    if not password:
        raise Complaint("the password on standard input is empty; write it on the first line")
    return password


def _askPassword() -> str:
    if not sys.stdin.isatty():
        raise Complaint("there is no terminal to ask for the password on; use --password-stdin")
    password: str = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _hash(password: str) -> str:
    from argon2 import PasswordHasher

    hashed: str = PasswordHasher().hash(password)
    return hashed


def _print(users: Iterable[User], asJson: bool) -> None:
    rows = [
        {
            "id": row.id,
            "address": row.address,
            "name": row.name,
            "forward_to": row.forwardTo,
            "keep": row.keep,
            "moved_to": row.movedTo,
            "created_at": isoTime(row.createdAt),
        }
        for row in users
    ]
    printRows(rows, ["address", "name", "forward_to", "moved_to"], asJson)
