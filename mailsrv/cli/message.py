"""smtpstore message: what was received."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import click

from mailsrv.cli.database import Complaint, Database, withDatabase
from mailsrv.cli.output import isoTime, jsonOption, printRows, safe, safeText, say
from mailsrv.store.queries import Row, Txn
from mailsrv.store.queries.messages import contentTxn, listMessagesTxn, messageTxn
from mailsrv.store.queries.recipients import recipientsTxn

_PAGE = 500  # messages that are read at a time
_ID = click.argument("ulid", metavar="ID")
_TEXTS = ("trace", "body", "subject")


class Time(click.ParamType):  # type: ignore[type-arg]  # generic in newer clicks only
    """A time in ISO 8601, UTC where it names no zone."""

    name = "time"

    def convert(self, value: Any, param: Any, ctx: Any) -> datetime:
        try:
            time = datetime.fromisoformat(value)
            return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            raise Complaint(
                f"{value!r} is not a time; write 2026-01-31 or 2026-01-31T12:00:00Z"
            ) from None


@click.group()
def message() -> None:
    """Messages: what was received, newest first.

    \b
    Examples:
      smtpstore message list --to bob@example.com --since 2026-01-31
      smtpstore message list --search invoice --json
      smtpstore message show 01J8ZC0000000000000000000A
      smtpstore message raw 01J8ZC0000000000000000000A > mail.eml
    """


@message.command("list")
@withDatabase
@click.option("--to", metavar="ADDRESS", help="A recipient, or the user whose mailbox holds it.")
@click.option("--from", "sender", metavar="ADDRESS", help="The sender; '' for notifications.")
@click.option("--since", type=Time(), help="Received at this time or later, UTC.")
@click.option("--search", metavar="TEXT", help="Words of the subject or the body.")
@jsonOption
def listMessages(database: Database, asJson: bool, **filters: Any) -> None:
    """Show messages, newest first."""
    if filters["sender"] == "<>":
        filters["sender"] = ""
    with database.transaction() as txn:
        columns = ["id", "received_at", "size", "sender", "subject"]
        printRows(_messages(txn, filters), columns, asJson)


@message.command()
@withDatabase
@_ID
@jsonOption
def show(database: Database, ulid: str, asJson: bool) -> None:
    """Show the message ID: its envelope, and its text as far as it could be read."""
    with database.transaction() as txn:
        row = _readable(_message(txn, ulid))
        recipients = recipientsTxn(txn, ulid)
    if asJson:
        printRows([{**row, "recipients": recipients}], [], asJson)
        return
    row["recipients"] = ", ".join(recipient["address"] for recipient in recipients)
    for column, value in row.items():
        if column not in _TEXTS and value not in (None, ""):
            say(f"{column + ':':<13}{safe(value)}")
    say(f"{'subject:':<13}{safe(row['subject'])}")
    say("")
    say(safeText(row["body"] or ""))


@message.command()
@withDatabase
@_ID
@click.option("--no-trace", "noTrace", is_flag=True, help="The message's own octets, no more.")
def raw(database: Database, ulid: str, noTrace: bool) -> None:
    """Write the message ID as it was received: the trace, then the exact octets."""
    stdout = sys.stdout.buffer
    with database.transaction() as txn:
        row = _message(txn, ulid)
        if not noTrace:
            stdout.write(row["trace"].encode())
        for piece in contentTxn(txn, ulid):
            stdout.write(piece)
    stdout.flush()


def _messages(txn: Txn, filters: dict[str, Any]) -> Iterator[Row]:
    page = listMessagesTxn(txn, **filters, limit=_PAGE)
    while page:
        yield from map(_readable, page)
        page = listMessagesTxn(txn, **filters, before=page[-1]["id"], limit=_PAGE)


def _message(txn: Txn, ulid: str) -> Row:
    row = messageTxn(txn, ulid)
    if row is None:
        raise Complaint(f"there is no message {ulid}; see: smtpstore message list")
    return row


def _readable(row: Row) -> Row:
    return {**row, "received_at": isoTime(row["received_at"]), "date": isoTime(row["date"])}
