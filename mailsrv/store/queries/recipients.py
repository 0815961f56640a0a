"""The table `recipients`: who has which message."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any

from mailsrv.smtp.address import foldCase, parseMailbox
from mailsrv.smtp.message import Message, Recipient
from mailsrv.store.queries import Row, Txn, clean, insertTxn, rowsTxn

_INTO = "INSERT INTO recipients (message_id, seq, user_id, address, address_key, parameters)"


@lru_cache(maxsize=1024)
def addressKey(address: str) -> str:
    """What an address is looked up by: A-Z folded, the domain as A-label."""
    mailbox = parseMailbox(address)
    return foldCase(address) if mailbox is None else mailbox.key


def insertRecipientsTxn(txn: Txn, messages: Iterable[Message]) -> None:
    """Write the recipients of messages just written."""
    rows = list(_rows(messages))
    insertTxn(txn, _INTO, rows, len(rows))


def addRecipientsTxn(txn: Txn, messageId: str, recipients: Iterable[Recipient]) -> None:
    """Write further recipients of a message that is there already."""
    txn.execute("SELECT coalesce(max(seq), 0) FROM recipients WHERE message_id = ?", (messageId,))
    start = txn.fetchone()[0] + 1
    rows = [_row(messageId, *each) for each in enumerate(recipients, start)]
    insertTxn(txn, _INTO, rows, len(rows))


def _rows(messages: Iterable[Message]) -> Iterator[tuple[Any, ...]]:
    for message in messages:
        for seq, recipient in enumerate(message.recipients, 1):
            yield _row(message.id, seq, recipient)


def _row(messageId: str, seq: int, recipient: Recipient) -> tuple[Any, ...]:
    address = clean(recipient.address)
    return messageId, seq, recipient.userId, address, addressKey(address), recipient.parameters


def recipientsTxn(txn: Txn, messageId: str) -> list[Row]:
    """The recipients of a message in the order of RCPT: address, user_id, parameters."""
    txn.execute(
        "SELECT address, user_id, parameters FROM recipients WHERE message_id = ? ORDER BY seq",
        (messageId,),
    )
    return rowsTxn(txn)
