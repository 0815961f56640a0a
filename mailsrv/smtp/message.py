"""A message as it goes from the receiving side to the store: frozen values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


class Content(Protocol):
    """The octets of a message, wherever they rest until the COMMIT.

    It is read in a database thread, possibly twice, and closed by whoever owns it.
    """

    @property
    def size(self) -> int:
        """Octets in all."""

    @property
    def sha256(self) -> str:
        """SHA-256 of all the octets, 64 hexadecimal digits."""

    def head(self, limit: int) -> bytes:
        """The first `limit` octets (fewer where the content is shorter)."""

    def pieces(self, size: int, offset: int = 0) -> Iterator[bytes]:
        """The octets from `offset` on, `size` at a time; each call starts anew."""

    def close(self) -> None:
        """Give memory and temporary file back; may be called twice."""


class BytesContent:
    """A Content that simply holds its octets: tests, clients and small messages."""

    def __init__(self, octets: bytes) -> None:
        self.octets = octets

    @property
    def size(self) -> int:
        return len(self.octets)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.octets).hexdigest()

    def head(self, limit: int) -> bytes:
        return self.octets[:limit]

    def pieces(self, size: int, offset: int = 0) -> Iterator[bytes]:
        for start in range(offset, len(self.octets), size):
            yield self.octets[start : start + size]

    def close(self) -> None:
        """Nothing to give back."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What could be read out of a message; None where it is missing or cannot be extracted.

    `subject`: at most 1,000 characters, '' where the field is empty. `date`: aware, UTC.
    `body`: the text a person reads, at most 65,536 characters. `messageId`: the Message-ID
    field as given, with its brackets.
    """

    subject: str | None = None
    date: datetime | None = None
    body: str | None = None
    messageId: str | None = None


@dataclass(frozen=True, slots=True)
class Recipient:
    """An accepted forward-path and one mailbox that holds its mail.

    `address`: local-part@domain as given, no brackets, no source route. `userId`: the row of
    `users`, or None (a sink, or a recipient that is only queued). `parameters`: of RCPT, as given.
    """

    address: str
    userId: int | None = None
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class Forward:
    """An address elsewhere that the message is queued for.

    `address`: where it goes. `recipient`: the accepted forward-path it comes from.
    `parameters`: of that RCPT, as given.
    """

    address: str
    recipient: str
    parameters: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """A whole message with its envelope, ready to be stored in one transaction.

    `id`: 26 characters, a ULID. `receivedAt`: aware, UTC. `sender`: the reverse-path, '' for <>.
    `trace`: the Return-Path and Received lines, CRLF and all. The other fields are the columns
    of `messages` of the same name.
    """

    id: str
    receivedAt: datetime
    sender: str
    recipients: tuple[Recipient, ...]
    content: Content
    forwards: tuple[Forward, ...] = ()
    summary: Summary = field(default_factory=Summary)
    parameters: str = ""
    helo: str = ""
    peer: str = ""
    protocol: str = "SMTP"
    trace: bytes = b""
