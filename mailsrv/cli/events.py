"""smtpstore events: what the application is told of, and is still to be told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import click

from mailsrv.cli.database import Complaint, Database, withDatabase
from mailsrv.cli.output import isoTime, jsonOption, printRows
from mailsrv.store.queries import Row, Txn
from mailsrv.store.queries.events import STATES, listEventsTxn, replayEventTxn

_PAGE = 500  # events that are read, or replayed in one transaction, at a time
_MESSAGE_ID = 26  # characters
_COLUMNS = ("id", "state", "attempts", "next_attempt_at", "message_id", "destination", "last_error")
_TIMES = ("next_attempt_at", "claimed_until", "created_at")

_destinationOption = click.option(
    "--destination", metavar="URL", help="Only what is for it; as shown by: events list"
)


@click.group()
def events() -> None:
    """Events: what the application is told of, oldest first.

    Each message that was stored while the server had a --webhook is one for each of them. An
    event is waiting, delivered, or dead: given up after many attempts. What is delivered stays in
    the list for 3 days, what is dead for 30.

    \b
    Examples:
      smtpstore events list --state dead
      smtpstore events replay 01J8ZC0000000000000000000A
      smtpstore events replay --dead --destination https://app.example.com/mail
    """


@events.command("list")
@withDatabase
@click.option("--state", type=click.Choice(STATES), help="Only those in this state.")
@_destinationOption
@jsonOption
def listEvents(
    database: Database, state: str | None, destination: str | None, asJson: bool
) -> None:
    """Show events, oldest first."""
    with database.transaction() as txn:
        rows = _events(txn, state=state, destination=destination)
        printRows(map(_readable, rows), _COLUMNS, asJson)


@events.command()
@withDatabase
@click.argument("ids", metavar="[ID]...", nargs=-1)
@click.option("--dead", is_flag=True, help="All that were given up.")
@_destinationOption
@jsonOption
def replay(
    database: Database, ids: Sequence[str], dead: bool, destination: str | None, asJson: bool
) -> None:
    """Have events delivered once more: those of ID, an event's number or a message's id.

    They keep their ids and their place in the order. One that is being delivered just now is left
    alone.
    """
    if bool(ids) == dead:
        raise Complaint("say which events: their IDs, or --dead; see: smtpstore events list")
    filters: dict[str, Any] = {"destination": destination}
    if dead:
        filters["state"] = "dead"
    else:
        filters["numbers"] = [_number(id) for id in ids if len(id) < _MESSAGE_ID]
        filters["messageIds"] = [id.upper() for id in ids if len(id) >= _MESSAGE_ID]
    replayed = list(_replayed(database, filters))
    if ids and not replayed:
        raise Complaint("there are no such events, or they are just being delivered")
    printRows(map(_readable, replayed), _COLUMNS, asJson)


def _number(id: str) -> int:
    if not (id.isascii() and id.isdigit() and len(id) < 19):
        raise Complaint(f"{id!r} is neither an event's number nor a message's id")
    return int(id)


def _replayed(database: Database, filters: dict[str, Any]) -> Iterator[Row]:
    """Replay page by page, a transaction each, so that no server waits long for its turn."""
    last = 0
    while True:
        with database.transaction() as txn:
            page = listEventsTxn(txn, **filters, after=last, limit=_PAGE)
            now = datetime.now(UTC)
            numbers = [event["id"] for event in page if replayEventTxn(txn, event, now)]
            rows = listEventsTxn(txn, numbers=numbers, limit=len(numbers))
        if not page:
            return
        last = page[-1]["id"]
        yield from rows


def _events(txn: Txn, **filters: Any) -> Iterable[Row]:
    page = listEventsTxn(txn, **filters, limit=_PAGE)
    while page:
        yield from page
        page = listEventsTxn(txn, **filters, after=page[-1]["id"], limit=_PAGE)


def _readable(row: Row) -> Row:
    return {**row, **{column: isoTime(row[column]) for column in _TIMES}}
