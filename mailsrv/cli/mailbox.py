"""A whole mailbox as an argument, and how far a command has come with it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

from mailsrv.cli.database import Complaint
from mailsrv.smtp.address import Mailbox
from mailsrv.store.queries import Txn
from mailsrv.store.queries.mailboxes import MailboxName, mailboxTxn

Advance = Callable[[int], None]


def knownMailbox(txn: Txn, address: Mailbox | None) -> MailboxName | None:
    """The mailbox of an address, None for all of them; complains where there is none."""
    if address is None:
        return None
    mailbox = mailboxTxn(txn, str(address))
    if mailbox is None:
        raise Complaint(f"there is no mailbox {address} here; see: smtpstore user list")
    return mailbox


@contextmanager
def progress(label: str, length: int) -> Iterator[Advance]:
    """A bar on standard error while the block runs, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label=label, file=sys.stderr) as bar:
        yield bar.update


def plural(count: int, what: str) -> str:
    """`1 message`, `2 messages`."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"
