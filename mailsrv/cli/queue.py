"""smtpstore queue: mail waiting to be relayed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from mailsrv.cli.database import Complaint, Database, withDatabase
from mailsrv.cli.output import isoTime, jsonOption, printRows, say
from mailsrv.store.queries import Row, Txn
from mailsrv.store.queries.queue import (
    listQueueTxn,
    queueRowTxn,
    removeQueueTxn,
    retryQueueTxn,
)

_PAGE = 500  # rows that are read at a time
_COLUMNS = ("id", "state", "attempts", "next_attempt_at", "sender", "address", "last_reply")
_TIMES = ("created_at", "next_attempt_at", "claimed_until")
_STATES = ("waiting", "sent", "failed")
_IDS = click.argument("ids", metavar="[ID]...", type=int, nargs=-1)


@click.group()
def queue() -> None:
    """Mail for addresses elsewhere: waiting, sent, or given up.

    \b
    Examples:
      smtpstore queue list
      smtpstore queue list --state failed --to bob@elsewhere.org
      smtpstore queue retry --all
      smtpstore queue remove 17 18
    """


@queue.command("list")
@withDatabase
@click.option(
    "--state",
    type=click.Choice([*_STATES, "all"]),
    default="waiting",
    show_default=True,
    help="What became of it so far.",
)
@click.option("--to", metavar="ADDRESS", help="Where it goes, or the recipient it comes from.")
@click.option("--domain", metavar="DOMAIN", help="The domain it goes to.")
@click.option("--message", metavar="ID", help="The message.")
@jsonOption
def listQueue(database: Database, state: str, asJson: bool, **filters: Any) -> None:
    """Show what is queued, the oldest first."""
    filters["state"] = None if state == "all" else state
    with database.transaction() as txn:
        printRows(_rows(txn, filters), _COLUMNS, asJson)


@queue.command()
@withDatabase
@_IDS
@click.option("--all", "isAll", is_flag=True, help="All that is waiting.")
@jsonOption
def retry(database: Database, ids: tuple[int, ...], isAll: bool, asJson: bool) -> None:
    """Try what is queued as ID again now, given up or not."""
    if isAll == bool(ids):
        raise Complaint("say which: smtpstore queue retry ID..., or --all for all that is waiting")
    now = datetime.now(UTC)
    with database.transaction() as txn:
        if isAll:
            count = retryQueueTxn(txn, now)
            rows = []
        else:
            rows = [_tried(txn, id, now) for id in ids]
            count = len(rows)
    if asJson:
        printRows(map(_readable, rows) if ids else [{"count": count}], [], asJson)
    else:
        say(f"{count} will be tried again now")


@queue.command()
@withDatabase
@click.argument("ids", metavar="ID...", type=int, nargs=-1, required=True)
@jsonOption
def remove(database: Database, ids: tuple[int, ...], asJson: bool) -> None:
    """Take ID out of the queue; it is not sent, and nobody is told."""
    with database.transaction() as txn:
        rows = [_row(txn, id) for id in dict.fromkeys(ids)]
        for row in rows:
            removeQueueTxn(txn, row["id"])
    printRows(map(_readable, rows), ("id", "state", "address"), asJson)


def _rows(txn: Txn, filters: dict[str, Any]) -> Iterator[Row]:
    page = listQueueTxn(txn, **filters, limit=_PAGE)
    while page:
        yield from map(_readable, page)
        page = listQueueTxn(txn, **filters, after=page[-1]["id"], limit=_PAGE)


def _row(txn: Txn, id: int) -> Row:
    row = queueRowTxn(txn, id)
    if row is None:
        raise Complaint(f"nothing is queued as {id}; see: smtpstore queue list --state all")
    return row


def _tried(txn: Txn, id: int, now: datetime) -> Row:
    if _row(txn, id)["state"] == "sent":
        raise Complaint(f"{id} has been sent already; see: smtpstore queue list --state sent")
    retryQueueTxn(txn, now, id)
    return _row(txn, id)


def _readable(row: Row) -> Row:
    return {
        **row,
        **{name: isoTime(row[name]) for name in _TIMES},
        "delay_reported": bool(row["delay_reported"]),
    }
