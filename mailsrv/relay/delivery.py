"""One attempt: a job over a connection, and what is written of it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mailsrv.client.envelope import Envelope, SendResult
from mailsrv.interfaces import IQueue, Outcome, QueueItem
from mailsrv.relay.content import isLooping, relayedTrace, sourceOf
from mailsrv.relay.counters import Counters
from mailsrv.relay.here import Here
from mailsrv.relay.job import LOOP, Job, Verdict, judge, reportedOf
from mailsrv.relay.report import Reported
from mailsrv.relay.reporter import Reporter
from mailsrv.relay.schedule import Schedule
from mailsrv.smtp.errors import CannotStore, StoreError
from mailsrv.smtp.local import LocalReply
from mailsrv.smtp.message import Message
from mailsrv.smtp.notify import readParameters
from mailsrv.smtp.reply import Reply

FIRST_PAUSE = 1.0  # seconds before an outcome is written again, doubled each time
LAST_PAUSE = 30.0

_COUNTED = {"sent": "sent", "failed": "failed", "waiting": "deferred"}


class Transport(Protocol):
    """What is asked of an EsmtpTransport that is connected."""

    hostname: str

    @property
    def isConnected(self) -> bool: ...

    def isActive(self, keyword: str) -> bool: ...

    def send(self, envelope: Envelope) -> Deferred[SendResult]: ...

    def quit(self) -> Deferred[None]: ...

    def abort(self) -> None: ...


class Delivery:
    """Tries jobs, and writes what came of them, together with the report on it.

    What a next hop has answered is not forgotten while the database is away: it is written as
    soon as that is back. `now`: aware, UTC. `chance`: from 0 to 1, for the times of retries.
    """

    def __init__(
        self,
        queue: IQueue,
        reporter: Reporter,
        clock: IReactorTime,
        now: Callable[[], datetime],
        schedule: Schedule,
        chance: Callable[[], float] = random.random,
        log: Logger | None = None,
    ) -> None:
        self.counters = Counters()
        self._queue = queue
        self._reporter = reporter
        self._clock = clock
        self._now = now
        self._schedule = schedule
        self._chance = chance
        self._log = log or Logger(namespace="smtpstore")

    async def tryOver(
        self, transport: Transport, job: Job, isWanted: Callable[[], bool], isFresh: bool
    ) -> bool:
        """Send the job's message; whether the job is done with.

        Not, where `isWanted` says so by the time all is ready to be sent or sent; nor where a
        connection that was used before (not `isFresh`) ended under it: another one may do.
        """
        message = job.message
        first = await self._queue.read(message.id, 0)
        if isLooping(relayedTrace(message) + first):
            await self.answer(job, LOOP)
            return True
        envelope = Envelope(
            sender=message.sender,
            recipients=tuple(item.address for item in job.items),
            content=await sourceOf(self._queue, message, first),
            parameters=readParameters(message.parameters),
            recipientParameters={
                item.address: readParameters(item.parameters) for item in job.items
            },
        )
        if not isWanted():
            return False
        result = await transport.send(envelope)
        replies = [each.reply for each in result.recipients]
        isCut = not transport.isConnected and all(each.code // 100 == 4 for each in replies)
        if isCut and not (isFresh and isWanted()):
            return False
        await self._settle(job, replies, transport.hostname, transport.isActive("DSN"))
        return True

    async def answer(self, job: Job, reply: Reply) -> None:
        """Write that `reply` is the answer for all of the job, which nobody was asked to take."""
        await self._settle(job, [reply] * len(job.items), "", False)

    async def deliverHere(self, here: Here, job: Job) -> bool:
        """Deliver a job to our own mailboxes: it is done with. Fails with Unavailable."""
        now, chance = self._now(), self._chance()
        verdicts = []
        for item in job.items:
            verdict = await here.deliver(item)
            if isinstance(verdict, Reply):
                verdict = self._judge(item, verdict, now, chance)
            verdicts.append(verdict)
        await self._conclude(job, verdicts, now, "")
        return True

    async def _settle(
        self, job: Job, replies: Sequence[Reply], remote: str, passesOn: bool
    ) -> None:
        now, chance = self._now(), self._chance()
        verdicts = [
            self._judge(item, reply, now, chance, remote, passesOn)
            for item, reply in zip(job.items, replies, strict=True)
        ]
        await self._conclude(job, verdicts, now, remote)

    def _judge(
        self,
        item: QueueItem,
        reply: Reply,
        now: datetime,
        chance: float,
        remote: str = "",
        passesOn: bool = False,
    ) -> Verdict:
        return judge(
            item,
            reply,
            now=now,
            schedule=self._schedule,
            remote="" if isinstance(reply, LocalReply) else remote,
            passesOn=passesOn,
            chance=chance,
        )

    async def _conclude(
        self, job: Job, verdicts: Sequence[Verdict], now: datetime, remote: str
    ) -> None:
        if await self._write(job, verdicts, now):
            for verdict in verdicts:
                self._note(verdict.outcome, remote)

    async def _write(self, job: Job, verdicts: Sequence[Verdict], now: datetime) -> bool:
        """Whether any of it was news; it is written however long that takes."""
        outcomes = [verdict.outcome for verdict in verdicts]
        reported = reportedOf(verdicts)
        pause = FIRST_PAUSE
        while True:
            try:
                report = await self._report(job, reported)
                isNews = await self._queue.settle(outcomes, report, now)
            except CannotStore as error:
                self._log.error(
                    "what became of {id} cannot be written: {error}",
                    id=job.message.id, error=error,
                )  # fmt: skip
                if not reported:
                    return False
                reported = []  # the outcome matters more than the report on it
            except StoreError as error:
                self._log.warn(
                    "what became of {id} waits for the database: {error}",
                    id=job.message.id, error=error,
                )  # fmt: skip
                await deferLater(self._clock, pause)
                pause = min(2 * pause, LAST_PAUSE)
            else:
                if isNews and report is not None:
                    self.counters.reports += 1
                    self._log.info("report id={id} on={on}", id=report.id, on=job.message.id)
                return isNews

    async def _report(self, job: Job, reported: Sequence[Reported]) -> Message | None:
        if not reported:
            return None
        first = await self._queue.read(job.message.id, 0)
        try:
            return await self._reporter.report(job.message, reported, first)
        except (StoreError, CancelledError):
            raise
        except Exception:
            self._log.failure("no report on {id}", id=job.message.id)
            return None

    def _note(self, outcome: Outcome, remote: str) -> None:
        """One line, and one more in the counts."""
        kind = _COUNTED[outcome.state]
        setattr(self.counters, kind, getattr(self.counters, kind) + 1)
        self._log.info(
            "{outcome} id={id} to={address!r} host={remote} attempt={attempt} reply={reply!r}",
            outcome="relayed" if kind == "sent" else kind,
            id=outcome.item.message.id,
            address=outcome.item.address,
            remote=remote or "-",
            attempt=outcome.item.attempts + 1,
            reply=outcome.reply,
        )
