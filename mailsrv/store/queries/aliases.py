"""The table `aliases`; an address of `@domain` is the domain's catch-all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mailsrv.store.queries import Txn, marks

_BY_KEY = "SELECT address_key, address, target FROM aliases WHERE address_key IN ({})"


@dataclass(frozen=True, slots=True)
class Alias:
    """A row of `aliases`."""

    address: str
    target: str


def aliasesByKeyTxn(txn: Txn, keys: Sequence[str]) -> dict[str, Alias]:
    """The aliases whose address keys are among `keys`."""
    txn.execute(_BY_KEY.format(marks(len(keys))), tuple(keys))
    return {key: Alias(address, target) for key, address, target in txn.fetchall()}


def listAliasesTxn(txn: Txn) -> list[Alias]:
    """Every alias, by address."""
    txn.execute("SELECT address, target FROM aliases ORDER BY address_key")
    return [Alias(address, target) for address, target in txn.fetchall()]


def addAliasTxn(txn: Txn, alias: Alias) -> None:
    """Insert the alias."""
    txn.execute(
        "INSERT INTO aliases (address, target) VALUES (?, ?)", (alias.address, alias.target)
    )


def removeAliasTxn(txn: Txn, key: str) -> None:
    """Delete the alias of an address key."""
    txn.execute("DELETE FROM aliases WHERE address_key = ?", (key,))
