"""Reports as messages: to whom they go (RFC 3461 §6.1)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from email.utils import format_datetime

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from ulid import ULID

from mailsrv.interfaces import IDirectory, QueuedMessage
from mailsrv.relay.report import Report, Reported, composeReport
from mailsrv.smtp.address import parseMailbox
from mailsrv.smtp.message import BytesContent, Forward, Message, Recipient, Summary

_log = Logger(namespace="smtpstore")


class Reporter:
    """Makes reports for senders, here or elsewhere; `directory` tells where a sender's mail goes.

    `now`: aware, UTC.
    """

    def __init__(self, directory: IDirectory, hostname: str, now: Callable[[], datetime]) -> None:
        self._directory = directory
        self._hostname = hostname
        self._now = now

    async def report(
        self, message: QueuedMessage, recipients: Sequence[Reported], content: bytes
    ) -> Message | None:
        """The report on a message, ready to be stored; `content` is its first MiB.

        None where there is nothing to tell, or nobody: a report is never answered with a report.
        Fails with Unavailable where the directory does.
        """
        sender = parseMailbox(message.sender)
        if not recipients or sender is None:
            return None
        found = self._directory.resolve(sender)
        if isinstance(found, Deferred):
            found = await found
        if not found.reply.isPositive:
            _log.warn(
                "no report on {id}: its sender <{sender}> receives no mail ({reply})",
                id=message.id, sender=message.sender, reply=found.reply.text,
            )  # fmt: skip
            return None
        id, now = str(ULID()), self._now()
        report = composeReport(
            id=id,
            hostname=self._hostname,
            now=now,
            message=message,
            recipients=recipients,
            content=content,
        )
        address = message.sender
        return Message(
            id=id,
            receivedAt=now,
            sender="",
            recipients=tuple(Recipient(address, user) for user in found.mailboxes or (None,)),
            forwards=tuple(Forward(target, address) for target in found.forwards),
            content=BytesContent(report.octets),
            summary=Summary(
                report.subject,
                now.replace(microsecond=0),
                report.text,
                f"<{id}@{self._hostname}>",
            ),
            parameters=_parameters(report),
            helo=self._hostname,
            protocol="ESMTP",
            trace=self._trace(id, now),
        )

    def _trace(self, id: str, now: datetime) -> bytes:
        return (
            "Return-Path: <>\r\n"
            f"Received: from {self._hostname} by {self._hostname} id {id};\r\n"
            f"\t{format_datetime(now.replace(microsecond=0))}\r\n"
        ).encode()


def _parameters(report: Report) -> str:
    """What the way of the report must carry."""
    said = [] if report.octets.isascii() else ["BODY=8BITMIME"]
    return " ".join([*said, "SMTPUTF8"] if report.needsUtf8 else said)
