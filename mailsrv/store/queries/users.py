"""The table `users`. Every function runs in a database thread, or where blocking is right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from mailsrv.store.queries import Txn, marks

_SELECT = (
    "SELECT id, address, name, forward_to, keep, moved_to, created_at,"
    " password_hash IS NOT NULL, address_key FROM users "
)


@dataclass(frozen=True, slots=True)
class User:
    """A row of `users`, its password hash left out."""

    id: int
    address: str
    name: str = ""
    forwardTo: str | None = None
    keep: bool = False
    movedTo: str | None = None
    createdAt: str = ""
    canLogIn: bool = False


def usersByKeyTxn(txn: Txn, keys: Sequence[str]) -> dict[str, User]:
    """The users whose address keys are among `keys`."""
    txn.execute(f"{_SELECT}WHERE address_key IN ({marks(len(keys))})", tuple(keys))
    return {row[8]: _user(row) for row in txn.fetchall()}


def userTxn(txn: Txn, key: str) -> User | None:
    """The user of an address key."""
    return usersByKeyTxn(txn, [key]).get(key)


def listUsersTxn(txn: Txn) -> list[User]:
    """Every user, by address."""
    txn.execute(f"{_SELECT}ORDER BY address_key")
    return [_user(row) for row in txn.fetchall()]


def addUserTxn(txn: Txn, user: User, passwordHash: str | None) -> None:
    """Insert the user, whose id and time of creation are the database's to give."""
    txn.execute(
        "INSERT INTO users (address, name, password_hash, forward_to, keep, moved_to)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        (user.address, user.name, passwordHash, user.forwardTo, int(user.keep), user.movedTo),
    )


def changeUserTxn(txn: Txn, user: User) -> None:
    """Write what may change of the user: name, forward_to, keep, moved_to."""
    txn.execute(
        "UPDATE users SET name = ?, forward_to = ?, keep = ?, moved_to = ? WHERE id = ?",
        (user.name, user.forwardTo, int(user.keep), user.movedTo, user.id),
    )


def setPasswordTxn(txn: Txn, user: User, passwordHash: str) -> None:
    """Write the user's password hash."""
    txn.execute("UPDATE users SET password_hash = ? WHERE id = ?", (passwordHash, user.id))


def removeUserTxn(txn: Txn, user: User) -> None:
    """Delete the user; the mail stays."""
    txn.execute("DELETE FROM users WHERE id = ?", (user.id,))


def _user(row: Sequence[Any]) -> User:
    id_, address, name, forwardTo, keep, movedTo, createdAt, canLogIn, _ = row
    return User(
        id_, address, name or "", forwardTo, bool(keep), movedTo, str(createdAt), bool(canLogIn)
    )
