"""smtpstore export: mailboxes out of the database."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from mailsrv.cli.address import Address
from mailsrv.cli.database import Complaint, Database, withDatabase
from mailsrv.cli.mailbox import Advance, knownMailbox, plural, progress
from mailsrv.cli.output import jsonOption, printRows, say
from mailsrv.formats.eml import EmlWriter
from mailsrv.formats.entry import Destination, Envelope, NotOurs
from mailsrv.formats.maildir import MaildirWriter
from mailsrv.formats.mbox import MboxWriter
from mailsrv.smtp.address import Mailbox
from mailsrv.store.queries import Row, Txn, parseTime
from mailsrv.store.queries.mailboxes import MailboxName, countTxn, snapshotTxn, walkTxn
from mailsrv.store.queries.messages import contentTxn

_PAGE = 100  # messages that are read in one transaction, and synced to the disk together
_FOLDERS: dict[str, Callable[[Path], Destination]] = {"maildir": MaildirWriter, "eml": EmlWriter}


@dataclass
class _Tally:
    """What an export has done so far."""

    exported: int = 0
    skipped: int = 0
    octets: int = 0


@click.command("export")
@withDatabase
@click.argument("destination", metavar="DEST", type=click.Path(path_type=Path))
@click.option(
    "--format", "format", type=click.Choice(["mbox", *_FOLDERS]), default="mbox", show_default=True
)
@click.option("--to", "address", type=Address(), help="Only this mailbox; otherwise all messages.")
@click.option("--trace", "withTrace", is_flag=True, help="With the Received lines in front.")
@jsonOption
def export(
    database: Database,
    destination: Path,
    format: str,
    address: Mailbox | None,
    withTrace: bool,
    asJson: bool,
) -> None:
    """Write whole mailboxes to DEST, a file (mbox) or a folder (maildir, eml).

    The octets are those that were stored, CRLF and all; export and import again give the same.
    mbox is mboxrd: it quotes lines that begin with From, and takes that back. The time of receipt
    is the date of the mbox's From line, or that of the file.

    An export that was cut off goes on when it is run again. An mbox gets its name when it is
    whole, and is in a file beside it, .DEST.….part, until then. In a folder each message is a
    file with its id in the name, and what is there is left alone: run again later, it adds what
    has come since.

    \b
    Examples:
      smtpstore export all.mbox
      smtpstore export bob.mbox --to bob@example.com
      smtpstore export /backup/bob --format maildir --to bob@example.com
      smtpstore export /backup/eml --format eml --trace
    """
    tally = _Tally()
    with database.transaction() as txn:
        mailbox = knownMailbox(txn, address)
    try:
        with closing(_destination(destination, format, mailbox, withTrace)) as writer:
            with database.transaction() as txn:
                length = countTxn(txn, mailbox, writer.after)
            with progress("Exporting", length) as advance:
                _export(database, mailbox, writer, withTrace, tally, advance)
            writer.finish()
    except NotOurs as error:
        raise Complaint(str(error)) from None
    except OSError as error:
        raise _cannotWrite(destination, error) from None
    _print(tally, destination, asJson)


def _cannotWrite(destination: Path, error: OSError) -> Complaint:
    folder = destination.parent
    if not folder.is_dir():
        return Complaint(f"there is no folder {folder}; make it, or give another place")
    return Complaint(f"{destination}: {error.strerror or error}; give another place")


def _destination(
    path: Path, format: str, mailbox: MailboxName | None, withTrace: bool
) -> Destination:
    if format != "mbox":
        return _FOLDERS[format](path)
    if path.is_dir():
        raise NotOurs(f"{path} is a folder; give a file, or --format maildir or eml")
    if path.exists():
        raise NotOurs(f"{path} exists already; give another name, or move it away")
    # What was begun for another mailbox, or without trace, is not gone on with.
    what = f"{'' if mailbox is None else mailbox.key} {withTrace}"
    digest = hashlib.sha256(what.encode("utf-8", "replace")).hexdigest()[:8]
    return MboxWriter(path, path.with_name(f".{path.name}.{digest}.part"))


def _export(
    database: Database,
    mailbox: MailboxName | None,
    writer: Destination,
    withTrace: bool,
    tally: _Tally,
    advance: Advance,
) -> None:
    after = writer.after
    while True:
        with database.transaction() as txn:
            snapshotTxn(txn)
            page = walkTxn(txn, mailbox, after, _PAGE)
            for row in page:
                _write(txn, row, writer, withTrace, tally)
                advance(1)
        writer.flush()
        if not page:
            return
        after = page[-1]["id"]


def _write(txn: Txn, row: Row, writer: Destination, withTrace: bool, tally: _Tally) -> None:
    envelope = Envelope(row["id"], parseTime(row["received_at"]), row["sender"])
    if writer.has(envelope):
        tally.skipped += 1
        return
    writer.write(envelope, _pieces(txn, row, withTrace))
    tally.exported += 1
    tally.octets += row["size"]


def _pieces(txn: Txn, row: Row, withTrace: bool) -> Iterator[bytes]:
    if withTrace:
        yield row["trace"].encode()
    yield from contentTxn(txn, row["id"])


def _print(tally: _Tally, destination: Path, asJson: bool) -> None:
    if asJson:
        result: dict[str, Any] = {
            "exported": tally.exported,
            "skipped": tally.skipped,
            "octets": tally.octets,
        }
        printRows([result], [], asJson)
        return
    skipped = f", {tally.skipped} were there" if tally.skipped else ""
    say(f"{destination}: {plural(tally.exported, 'message')} exported{skipped}")
