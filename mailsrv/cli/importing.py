"""smtpstore import: mailboxes into the database."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parseaddr
from pathlib import Path

import click
from ulid import ULID

from mailsrv.cli.address import Address
from mailsrv.cli.database import Complaint, Database, withDatabase
from mailsrv.cli.mailbox import plural, progress
from mailsrv.cli.output import jsonOption, printRows, say
from mailsrv.extract import MAX_HEAD, extract
from mailsrv.formats.eml import EmlReader
from mailsrv.formats.entry import Entry, Source
from mailsrv.formats.maildir import MaildirReader, isMaildir
from mailsrv.formats.mbox import MboxReader
from mailsrv.smtp.address import Mailbox, parseMailbox
from mailsrv.smtp.message import Message, Recipient
from mailsrv.store.queries import Txn
from mailsrv.store.queries.mailboxes import (
    MailboxName,
    addMessagesTxn,
    digestsTxn,
    hasUsersTxn,
    heldTxn,
    holdTxn,
    mailboxTxn,
)

PROTOCOL = "import"  # in the column where others have SMTP or LMTP

_BATCH = 100  # messages in one transaction
_BATCH_OCTETS = 8 << 20  # and the octets after which no more are added
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = (1 << 48) - 1  # milliseconds in an id
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:")
_SENDER_FIELDS = (
    re.compile(rb"Return-Path:[ \t]*(<[^>\r\n]*>)", re.IGNORECASE),
    re.compile(rb"^From:[ \t]*((?:.|\n[ \t])*)", re.IGNORECASE | re.MULTILINE),
)
_HEADER = 65_536  # octets in which the sender is looked for
_LONGEST_FIELD = 2000


@dataclass
class _Tally:
    """What an import has done so far."""

    imported: int = 0
    skipped: int = 0
    octets: int = 0


@click.command("import")
@withDatabase
@click.argument("source", type=click.Path(path_type=Path))
@click.option("--to", "address", type=Address(), required=True, help="The mailbox to fill.")
@jsonOption
def importMailbox(database: Database, source: Path, address: Mailbox, asJson: bool) -> None:
    """Read the messages of SOURCE into a mailbox.

    SOURCE is an mbox, a Maildir, an .eml file or a folder of these; which, is found out. The
    octets are stored as they are. A message was received at the date of its From line (mbox)
    or of its file; its sender is that of the From line, else of its Return-Path or From field. The
    mailbox is that of a user; where there are no users at all (a sink), any. Nothing is queued,
    and the application is told of nothing: the mail is not new. Flags of a Maildir (seen, replied)
    have no place in the tables and are left behind.

    An import that was cut off goes on when it is run again: what the mailbox holds is skipped. A
    message is known by its id, where an export gave it one, else by its octets and its date.
    Folders within a Maildir, and flags, are left out.

    \b
    Examples:
      smtpstore import bob.mbox --to bob@example.com
      smtpstore import ~/Maildir --to bob@example.com
      smtpstore import invoice.eml --to bob@example.com
    """
    tally = _Tally()
    try:
        reader = _source(source)
        database.prepare()
        with database.transaction() as txn:
            mailbox = _mailbox(txn, address)
        with progress("Importing", reader.length) as advance:
            for batch in _batches(reader.entries()):
                try:
                    with database.transaction() as txn:
                        _importTxn(txn, mailbox, batch, tally)
                finally:
                    for entry in batch:
                        entry.content.close()
                advance(sum(entry.step for entry in batch))
    except OSError as error:
        raise Complaint(f"{error.filename or source}: {error.strerror or error}") from None
    if asJson:
        counts = {
            "imported": tally.imported, "skipped": tally.skipped, "octets": tally.octets
        }  # fmt: skip
        printRows([counts], [], asJson)
        return
    skipped = f", {tally.skipped} were there" if tally.skipped else ""
    say(f"{mailbox.address}: {plural(tally.imported, 'message')} imported{skipped}")


def _source(path: Path) -> Source:
    """The reader for what `path` turns out to be."""
    if path.is_dir():
        if isMaildir(path):
            return MaildirReader(path)
        folder = EmlReader(path)
        if not folder.length:
            raise Complaint(
                f"{path} is neither a Maildir nor a folder with .eml files; give the mailbox itself"
            )
        return folder
    with path.open("rb") as file:
        head = file.read(1000)
    if path.suffix.lower() == ".eml":
        return EmlReader(path)
    if not head or head.startswith(b"From "):
        return MboxReader(path)
    if _FIELD.match(head) is None:
        raise Complaint(f"{path} is neither an mbox nor a message; name a message something.eml")
    return EmlReader(path)


def _mailbox(txn: Txn, address: Mailbox) -> MailboxName:
    if not hasUsersTxn(txn):
        return MailboxName(str(address), address.key)
    mailbox = mailboxTxn(txn, str(address))
    if mailbox is None or mailbox.holder is None:
        raise Complaint(f"there is no user {address}; add it first: smtpstore user add {address}")
    return mailbox


def _batches(entries: Iterator[Entry]) -> Iterator[list[Entry]]:
    """Some entries at a time; what was not handed out when reading fails is closed."""
    batch: list[Entry] = []
    octets = 0
    try:
        for entry in entries:
            batch.append(entry)
            octets += entry.content.size
            if len(batch) >= _BATCH or octets >= _BATCH_OCTETS:
                full, batch, octets = batch, [], 0
                yield full
        if batch:
            full, batch = batch, []
            yield full
    finally:
        for entry in batch:
            entry.content.close()


def _importTxn(txn: Txn, mailbox: MailboxName, batch: Sequence[Entry], tally: _Tally) -> None:
    """Write those of a batch that are not stored, and have the mailbox hold all of them."""
    messages = [_message(entry, mailbox) for entry in batch]
    named = [entry.envelope.id for entry in batch if entry.envelope.id]
    digests = digestsTxn(txn, {*named, *(message.id for message in messages)})
    new: dict[str, Message] = {}
    known = set()
    for entry, message in zip(batch, messages, strict=True):
        digest = message.content.sha256
        name = entry.envelope.id
        # A name that others' octets have already is not this message's.
        id = name if name and digests.get(name, digest) == digest else message.id
        if id in digests:
            known.add(id)
            tally.skipped += 1
        else:
            new[id] = replace(message, id=id)
            digests[id] = digest
    addMessagesTxn(txn, list(new.values()))
    missing = known - new.keys() - heldTxn(txn, mailbox, known)
    holdTxn(txn, mailbox, sorted(missing))
    tally.skipped -= len(missing)
    tally.imported += len(new) + len(missing)
    tally.octets += sum(message.content.size for message in new.values())


def _message(entry: Entry, mailbox: MailboxName) -> Message:
    envelope, content = entry.envelope, entry.content
    head = content.head(MAX_HEAD)
    summary = extract(head)
    date = envelope.receivedAt or summary.date
    return Message(
        id=_derivedId(date or _EPOCH, mailbox, content.sha256),
        receivedAt=date or datetime.now(UTC),
        sender=_sender(envelope.sender, head),
        recipients=(Recipient(mailbox.address, mailbox.holder),),
        content=content,
        summary=summary,
        protocol=PROTOCOL,
    )


def _derivedId(date: datetime, mailbox: MailboxName, digest: str) -> str:
    """The same message of the same mailbox has the same id each time: so nothing comes twice."""
    milliseconds = min(max(int(date.timestamp() * 1000), 0), _LATEST)
    seed = hashlib.sha256(f"{mailbox.key}\n{digest}".encode("utf-8", "replace")).digest()
    return str(ULID.from_bytes(milliseconds.to_bytes(6, "big") + seed[:10]))


def _sender(known: str | None, head: bytes) -> str:
    """The reverse-path: as the file says, else that of Return-Path, else who wrote it."""
    if known is not None:
        return known if parseMailbox(known) is not None else ""
    header = head[:_HEADER].replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    returnPath = _SENDER_FIELDS[0].match(header)
    written = returnPath or _SENDER_FIELDS[1].search(header)
    if written is None:
        return ""
    address = parseaddr(written[1][:_LONGEST_FIELD].decode("utf-8", "replace"))[1]
    return address if parseMailbox(address) is not None else ""
