"""The tables `mailing_groups` and `mailing_group_members`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from mailsrv.store.queries import Txn, marks

_SELECT = (
    "SELECT g.address_key, g.id, g.address, g.name, m.address FROM mailing_groups g"
    " LEFT JOIN mailing_group_members m ON m.group_id = g.id "
)


@dataclass(frozen=True, slots=True)
class Group:
    """A row of `mailing_groups` with its members' addresses, in the order they joined."""

    id: int
    address: str
    name: str = ""
    members: tuple[str, ...] = ()


def groupsByKeyTxn(txn: Txn, keys: Sequence[str]) -> dict[str, Group]:
    """The groups whose address keys are among `keys`."""
    txn.execute(f"{_SELECT}WHERE g.address_key IN ({marks(len(keys))}) ORDER BY m.id", tuple(keys))
    return _groups(txn.fetchall())


def groupTxn(txn: Txn, key: str) -> Group | None:
    """The group of an address key."""
    return groupsByKeyTxn(txn, [key]).get(key)


def listGroupsTxn(txn: Txn) -> list[Group]:
    """Every group, by address."""
    txn.execute(f"{_SELECT}ORDER BY g.address_key, m.id")
    return list(_groups(txn.fetchall()).values())


def addGroupTxn(txn: Txn, address: str, name: str) -> None:
    """Insert a group without members; the database gives its id."""
    txn.execute("INSERT INTO mailing_groups (address, name) VALUES (?, ?)", (address, name))


def joinGroupTxn(txn: Txn, group: Group, members: Iterable[str]) -> None:
    """Insert members, none of whom is one already."""
    for member in members:
        txn.execute(
            "INSERT INTO mailing_group_members (group_id, address) VALUES (?, ?)",
            (group.id, member),
        )


def leaveGroupTxn(txn: Txn, group: Group, keys: Iterable[str]) -> None:
    """Delete the members of these address keys."""
    for key in keys:
        txn.execute(
            "DELETE FROM mailing_group_members WHERE group_id = ? AND address_key = ?",
            (group.id, key),
        )


def removeGroupTxn(txn: Txn, group: Group) -> None:
    """Delete the group and its members."""
    txn.execute("DELETE FROM mailing_group_members WHERE group_id = ?", (group.id,))
    txn.execute("DELETE FROM mailing_groups WHERE id = ?", (group.id,))


def _groups(rows: Iterable[Sequence[Any]]) -> dict[str, Group]:
    groups: dict[str, Group] = {}
    members: dict[str, list[str]] = {}
    for key, id_, address, name, member in rows:
        groups[key] = Group(id_, address, name or "")
        members.setdefault(key, [])
        if member is not None:
            members[key].append(member)
    return {
        key: Group(group.id, group.address, group.name, tuple(members[key]))
        for key, group in groups.items()
    }
