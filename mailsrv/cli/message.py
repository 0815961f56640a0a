"""smtpstore message: what was received."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from mailsrv.cli.address import Address
from mailsrv.cli.database import Complaint, Database, withDatabase
from mailsrv.cli.mailbox import knownMailbox, plural
from mailsrv.cli.output import isoTime, jsonOption, printRows, safe, safeText, say
from mailsrv.smtp.address import Mailbox
from mailsrv.store.queries import Row, Txn
from mailsrv.store.queries.mailboxes import (
    MailboxName,
    Purged,
    purgeMailboxTxn,
    purgeTxn,
    queuedTxn,
    waitingTxn,
)
from mailsrv.store.queries.messages import (
    contentTxn,
    deleteMessagesTxn,
    findIdsTxn,
    listMessagesTxn,
    messageTxn,
)
from mailsrv.store.queries.recipients import recipientsTxn

_PAGE = 500  # messages that are read at a time
_BATCH = 100  # messages that are deleted in one transaction
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
      smtpstore message delete 01J8ZC0000000000000000000A
      smtpstore message purge --older-than 90
      smtpstore message purge --older-than 30 --to bob@example.com
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


@message.command()
@withDatabase
@click.argument("ulids", metavar="ID...", nargs=-1, required=True)
@jsonOption
def delete(database: Database, ulids: Sequence[str], asJson: bool) -> None:
    """Delete the messages ID for good, out of every mailbox; either all of them or none.

    One that still waits to be sent on is not deleted: take it out of the queue first.
    """
    ids = list(dict.fromkeys(ulid.upper() for ulid in ulids))
    with database.transaction() as txn:
        for some in _slices(ids):
            stored, queued = findIdsTxn(txn, some), queuedTxn(txn, some)
            for id in some:
                if id not in stored:
                    raise _unknown(id)
                if id in queued:
                    raise Complaint(
                        f"message {id} still waits to be sent on; see: smtpstore queue list"
                        f" --message {id}, and take it out with: smtpstore queue remove"
                    )
            deleteMessagesTxn(txn, some)
    if asJson:
        printRows([{"id": id} for id in ids], [], asJson)
    else:
        say(f"{plural(len(ids), 'message')} deleted")


@message.command()
@withDatabase
@click.option(
    "--older-than",
    "days",
    type=click.IntRange(0, 100_000),
    required=True,
    metavar="DAYS",
    help="Received longer ago than that; 0: all there is.",
)
@click.option("--to", "address", type=Address(), help="Only out of this mailbox.")
@jsonOption
def purge(database: Database, days: int, address: Mailbox | None, asJson: bool) -> None:
    """Delete old messages for good.

    With --to they are taken out of that mailbox: others who have the same message keep it, and it
    is deleted when no recipient is left. A message that still waits to be sent on, or that the
    application is still to be told of, is left as it is until the next purge.

    It goes in small steps, beside a running server. A SQLite file does not shrink by it: its room
    is used for what comes.
    """
    before = datetime.now(UTC) - timedelta(days=days)
    found = deleted = 0
    with database.transaction() as txn:
        mailbox = knownMailbox(txn, address)
    while True:
        with database.transaction() as txn:
            step = _purgeTxn(txn, mailbox, before)
            if not step.found:
                waiting = waitingTxn(txn, before, mailbox)
        if not step.found:
            break
        found += step.found
        deleted += step.deleted
    if asJson:
        printRows([{"purged": found, "deleted": deleted, "waiting": waiting}], [], asJson)
        return
    kept = f", {found - deleted} kept for others" if found > deleted else ""
    left = f", {waiting} left as they wait for something" if waiting else ""
    say(f"{plural(deleted, 'message')} deleted{kept}{left}")


def _purgeTxn(txn: Txn, mailbox: MailboxName | None, before: datetime) -> Purged:
    if mailbox is None:
        return purgeTxn(txn, before, _BATCH)
    return purgeMailboxTxn(txn, mailbox, before, _BATCH)


def _slices(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(ids), _BATCH):
        yield ids[start : start + _BATCH]


def _messages(txn: Txn, filters: dict[str, Any]) -> Iterator[Row]:
    page = listMessagesTxn(txn, **filters, limit=_PAGE)
    while page:
        yield from map(_readable, page)
        page = listMessagesTxn(txn, **filters, before=page[-1]["id"], limit=_PAGE)


def _message(txn: Txn, ulid: str) -> Row:
    row = messageTxn(txn, ulid)
    if row is None:
        raise _unknown(ulid)
    return row


def _unknown(ulid: str) -> Complaint:
    return Complaint(f"there is no message {ulid}; see: smtpstore message list")


def _readable(row: Row) -> Row:
    return {**row, "received_at": isoTime(row["received_at"]), "date": isoTime(row["date"])}
