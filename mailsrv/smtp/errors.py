"""What can go wrong between a command and its reply."""

from __future__ import annotations

from mailsrv.smtp.reply import Reply


class SmtpSyntaxError(Exception):
    """A command, path or parameter that RFC 5321 §4.1 does not allow.

    `reply` is what the client is told.
    """

    def __init__(self, reply: Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


class StoreError(Exception):
    """The message, or the answer to a look-up, could not be had; never the client's fault."""


class Unavailable(StoreError):
    """The database is down, refuses, or has not answered in time: 421 4.3.0."""


class OutOfRoom(StoreError):
    """Disk, spool or memory is full: 452 4.3.1, which ends the transaction."""


class Busy(StoreError):
    """More waits already than may: 454 4.7.0 to AUTH."""


class CannotStore(StoreError):
    """This one message cannot be stored, others can: 451 4.3.0."""
