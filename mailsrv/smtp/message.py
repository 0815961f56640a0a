"""A message as it goes from the receiving side to the store: frozen values."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from io import IncrementalNewlineDecoder
from typing import TYPE_CHECKING, Protocol


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
    field as given, with its brackets. `ending`: the octets that the body was made of, where the
    content ends with them and they are its UTF-8 but for the line ends, which became LF; else None.
    """

    subject: str | None = None
    date: datetime | None = None
    body: str | None = None
    messageId: str | None = None
    ending: bytes | None = field(default=None, repr=False, compare=False)

    @classmethod
    def ofPlainText(
        cls, subject: str | None, date: datetime | None, messageId: str | None, ending: bytes
    ) -> Summary:
        """A Summary whose body is made of `ending` when it is first asked for, which most often
        nobody does: 3 µs of a message of 4 KiB."""
        summary = object.__new__(cls)
        setIn = object.__setattr__
        setIn(summary, "subject", subject)
        setIn(summary, "date", date)
        setIn(summary, "messageId", messageId)
        setIn(summary, "ending", ending)
        return summary

    if not TYPE_CHECKING:  # to which any name would then be one of a text

        def __getattr__(self, name: str) -> str:
            """What Python asks where an attribute was not set yet."""
            if name != "body":
                raise AttributeError(name)
            body = lineFeeds(self.ending.decode())
            object.__setattr__(self, "body", body)
            return body


def lineFeeds(text: str) -> str:
    """The text with its line ends as LF, whichever they were."""
    return IncrementalNewlineDecoder(None, translate=True).decode(text, True)


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
