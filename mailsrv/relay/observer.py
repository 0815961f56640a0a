"""What the relay hears of messages just stored: mail for elsewhere, and who asked to be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.interfaces import IMessageStore, IQueue, ISession, ISessionObserver, QueuedMessage
from mailsrv.relay.report import Reported
from mailsrv.relay.reporter import Reporter
from mailsrv.smtp.message import Message
from mailsrv.smtp.notify import expanded, wants
from mailsrv.smtp.reply import Reply


@implementer(ISessionObserver)
class StoredObserver:
    """Calls `poke` for each message stored: there is an event to deliver."""

    def __init__(self, poke: Callable[[], Any]) -> None:
        self.poke = poke

    def messageStored(self, session: ISession, message: Message, seconds: float) -> None:
        self.poke()

    def sessionOpened(self, session: ISession) -> None:
        """Nothing to do."""

    def sessionClosed(self, session: ISession, reason: str) -> None:
        """Nothing to do."""

    def commandRefused(self, session: ISession, verb: str, argument: bytes, reply: Reply) -> None:
        """Nothing to do."""


@implementer(ISessionObserver)
class RelayObserver:
    """Pokes the worker where something was queued, and reports what was delivered here to who
    asked for it by NOTIFY=SUCCESS (RFC 3461 §5.2.3, §5.2.7.3).

    `poke`: the worker's, or nothing where this server does not send. Such a report is best
    effort: it is stored after the message, and lost where the server dies in between.
    """

    def __init__(
        self,
        queue: IQueue,
        store: IMessageStore,
        reporter: Reporter,
        poke: Callable[[], Any],
        log: Logger | None = None,
    ) -> None:
        self._queue = queue
        self._store = store
        self._reporter = reporter
        self._poke = poke
        self._log = log or Logger(namespace="smtpstore")

    def sessionOpened(self, session: ISession) -> None:
        """Nothing to do."""

    def sessionClosed(self, session: ISession, reason: str) -> None:
        """Nothing to do."""

    def commandRefused(self, session: ISession, verb: str, argument: bytes, reply: Reply) -> None:
        """Nothing to do."""

    def messageStored(self, session: ISession, message: Message, seconds: float) -> None:
        if message.forwards:
            self._poke()
        if message.sender and any(recipient.parameters for recipient in message.recipients):
            delivered = deliveredHere(message)
            if delivered:
                told = Deferred.fromCoroutine(self._tell(message, delivered))
                told.addErrback(self._failed, message.id)

    async def _tell(self, message: Message, delivered: list[Reported]) -> None:
        queued = QueuedMessage(
            message.id,
            message.receivedAt,
            message.sender,
            message.parameters,
            message.trace,
            message.content.size,
        )
        # Not out of message.content, which the store has closed.
        first = await self._queue.read(message.id, 0)
        report = await self._reporter.report(queued, delivered, first)
        if report is not None:
            await self._store.store(report)
            if report.forwards:
                self._poke()

    def _failed(self, failure: Failure, id: str) -> None:
        self._log.failure("no report of the delivery of {id}", failure, id=id)


def deliveredHere(message: Message) -> list[Reported]:
    """The recipients who have it, or whose addresses have led to several, where the sender wants
    to know of success; what only goes on elsewhere is reported from there."""
    shared = expanded(message)
    elsewhere = {forward.recipient for forward in message.forwards}
    held = {each.address for each in message.recipients if each.userId is not None}
    reported: dict[str, Reported] = {}
    for each in message.recipients:
        isHere = each.address in held or each.address not in elsewhere
        if (isHere or each.address in shared) and wants(each.parameters, "SUCCESS"):
            action = "expanded" if each.address in shared else "delivered"
            reported[each.address] = Reported(action, each.address, each.parameters, "2.0.0")
    return list(reported.values())
