"""The worker: claims what is due in the queue and has it sent."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from datetime import datetime
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailsrv.interfaces import IQueue, QueueItem, UnexpectedReply
from mailsrv.relay.claims import Claims
from mailsrv.relay.counters import Counters
from mailsrv.relay.delivery import Delivery, Transport
from mailsrv.relay.here import Here
from mailsrv.relay.hop import Hop
from mailsrv.relay.job import Job, jobsOf
from mailsrv.relay.limits import RelayLimits
from mailsrv.smtp import reply as r
from mailsrv.smtp.errors import OutOfRoom, StoreError, Unavailable
from mailsrv.smtp.reply import Reply

Connect = Callable[[str], Deferred[Any]]

RELEASE = 2.0  # of the seconds for stopping, those that are left to give claims back


class QueueWorker:
    """Claims what is due, sends it by next hop over a bounded number of connections.

    `connect`: gives a Transport to a next hop, ready for mail, or fails with UnexpectedReply: a
    5yz fails all that waits for it. `hopOf`: the next hop of a domain; the domain itself unless
    told otherwise (a smart host). `now`: aware, UTC. All state is in the queue: a worker that
    dies leaves nothing behind but claims, which lapse.
    """

    def __init__(
        self,
        queue: IQueue,
        delivery: Delivery,
        connect: Connect,
        clock: IReactorTime,
        now: Callable[[], datetime],
        hopOf: Callable[[str], str] = str,
        here: Here | None = None,
        limits: RelayLimits | None = None,
        log: Logger | None = None,
    ) -> None:
        self.limits = limits or RelayLimits()
        self._delivery = delivery
        self._connect = connect
        self._clock = clock
        self._hopOf = hopOf
        self._here = here
        self._log = log or Logger(namespace="smtpstore")
        self._claims = Claims(queue, clock, now, self.limits.lease, self.counters)
        self._hops: dict[str, Hop] = {}
        self._under: set[Deferred[None]] = set()  # way
        self._over: Deferred[None] | None = None
        self._isRunning = False
        self._isClaiming = False
        self._isPoked = False
        self._hasMore = False
        self._isInTrouble = False
        self._pollTimer: IDelayedCall | None = None
        self._renewTimer: IDelayedCall | None = None

    @property
    def counters(self) -> Counters:
        """What was done so far, and what is under way."""
        return self._delivery.counters

    # Start and stop

    def start(self) -> None:
        """Begin to work."""
        self._isRunning = True
        self._renewTimer = self._clock.callLater(self.limits.lease / 3, self._renew)
        self.poke()

    def stop(self, limit: float) -> Deferred[None]:
        """Begin nothing more, let end what is under way, give all claims back; fires within
        `limit` seconds. What is not ended then is cut off, and is as due as it was."""
        return Deferred.fromCoroutine(self._stop(limit))

    async def _stop(self, limit: float) -> None:
        self._isRunning = False
        for timer in (self._pollTimer, self._renewTimer):
            if timer is not None and timer.active():
                timer.cancel()
        for hop in list(self._hops.values()):
            hop.wake()
        if self._under:
            self._over = Deferred()
            self._over.addTimeout(
                max(0.0, limit - RELEASE), self._clock, onTimeoutCancel=lambda *_: None
            )
            await self._over
        for each in list(self._under):
            each.cancel()
        released = Deferred.fromCoroutine(self._claims.release())
        released.addTimeout(RELEASE, self._clock)
        await released.addErrback(self._failed)

    def _begin(self, coroutine: Coroutine[Deferred[Any], Any, None]) -> None:
        under = Deferred.fromCoroutine(coroutine)
        self._under.add(under)
        under.addErrback(self._failed)
        under.addBoth(self._ended, under)

    def _ended(self, _: object, under: Deferred[None]) -> None:
        self._under.discard(under)
        if self._over is not None and not self._under and not self._over.called:
            self._over.callback(None)

    def _failed(self, failure: Failure) -> None:
        if failure.check(CancelledError):
            return
        if not failure.check(StoreError):
            self._log.failure("the relay has failed, and goes on", failure)
        elif not self._isInTrouble:
            self._isInTrouble = True
            self._log.warn("the queue cannot be asked: {error}", error=failure.getErrorMessage())

    # Claims

    def poke(self) -> None:
        """Look into the queue now: something may be due."""
        self._isPoked = True
        if self._isRunning and not self._isClaiming:
            self._isClaiming = True
            self._begin(self._claim())

    async def _claim(self) -> None:
        try:
            while self._isRunning and (self._isPoked or self._hasMore):
                room = self.limits.held - len(self._claims)
                if room <= 0:
                    break  # whoever makes room asks again
                self._isPoked = False
                excluded = self._crowded()
                items = await self._claims.claim(room, excluded)
                self._hasMore = len(items) >= room or bool(excluded)
                if self._isInTrouble:
                    self._isInTrouble = False
                    self._log.info("the queue answers again")
                self._take(items)
                if excluded:
                    break
        finally:
            self._isClaiming = False
            self._pollLater()

    def _take(self, items: Sequence[QueueItem]) -> None:
        """Deliver what is ours, and give the rest to its hops."""
        ours: list[QueueItem] = []
        others: list[QueueItem] = []
        for item in items:
            isOurs = self._here is not None and self._here.isHere(item.domain)
            (ours if isOurs else others).append(item)
        for _, job in jobsOf(ours, str):
            self._begin(self._deliverHere(job))
        for name, job in jobsOf(others, self._hopOf):
            self._hops.setdefault(name, self._newHop(name)).add(job)
        self._connectAll()

    async def _deliverHere(self, job: Job) -> None:
        assert self._here is not None
        if await self._carefully(job, self._delivery.deliverHere(self._here, job)):
            self._done(job)

    def _pollLater(self) -> None:
        if self._pollTimer is not None and self._pollTimer.active():
            self._pollTimer.cancel()
        if self._isRunning:
            self._pollTimer = self._clock.callLater(self.limits.poll, self.poke)

    def _crowded(self) -> set[str]:
        """The domains of hops that hold more than their share: others have their turn."""
        share = self.limits.held // 4
        return {
            item.domain
            for hop in self._hops.values()
            if len(hop.waiting) > share
            for job in hop.waiting
            for item in job.items
        }

    def _done(self, job: Job) -> None:
        self._claims.forget(job.items)
        isMore = self._isPoked or self._hasMore
        if isMore and len(self._claims) <= self.limits.held // 2 and not self._crowded():
            self.poke()

    def _renew(self) -> None:
        self._renewTimer = self._clock.callLater(self.limits.lease / 3, self._renew)
        self._begin(self._claims.renew())

    # Connections

    def _connectAll(self) -> None:
        """Open connections where they are wanted, as many as there may be."""
        for hop in list(self._hops.values()):
            while (
                self._isRunning
                and hop.wantsConnection
                and self.counters.connections < self.limits.connections
            ):
                hop.connections += 1
                self.counters.connections += 1
                self._begin(self._serve(hop))

    def _newHop(self, name: str) -> Hop:
        return Hop(name, self._clock, self.limits.connectionsPerHop)

    async def _serve(self, hop: Hop) -> None:
        """One connection to a hop, from its beginning to its end."""
        try:
            transport = await self._reach(hop)
            if transport is not None:
                hop.ready += 1
                try:
                    await self._use(transport, hop)
                finally:
                    hop.ready -= 1
                    hop.most = min(hop.most + 1, self.limits.connectionsPerHop)
        finally:
            hop.connections -= 1
            self.counters.connections -= 1
            if hop.isEmpty:
                self._hops.pop(hop.name, None)
            self._connectAll()

    async def _reach(self, hop: Hop) -> Transport | None:
        """A connection to a hop; where there is none, what waits for it is answered."""
        try:
            transport: Transport = await self._connect(hop.name)
            return transport
        except UnexpectedReply as error:
            reply = error.reply
        except CancelledError:
            raise
        except Exception:
            self._log.failure("{hop} cannot be reached", hop=hop.name)
            reply = r.LOCAL_ERROR
        if hop.ready:
            hop.most = hop.ready  # they serve what waits; only this one was too many
            return None
        for job in hop.drain():
            if self._isRunning and self._claims.isOurs(job):
                await self._answer(job, reply)
            else:
                await self._giveBack(job)
        return None

    async def _use(self, transport: Transport, hop: Hop) -> None:
        """Send what waits, one message after the other, for as long as the connection lives."""
        try:
            for number in range(self.limits.messagesPerConnection):
                job = await hop.take(self.limits.linger if self._isRunning else 0.0)
                if job is None or not self._isRunning:
                    break
                # It may have ended while it was idle, though no message has gone over it yet.
                isDone = transport.isConnected and await self._try(transport, job, number == 0)
                if not isDone:
                    hop.waiting.appendleft(job)
                    break
                if not transport.isConnected:
                    break
            await transport.quit()
        except Exception:
            transport.abort()
            raise

    async def _try(self, transport: Transport, job: Job, isFresh: bool) -> bool:
        """Whether the job needs no other connection."""

        def isWanted() -> bool:
            return self._isRunning and self._claims.isOurs(job)

        isDone = await self._carefully(
            job, self._delivery.tryOver(transport, job, isWanted, isFresh)
        )
        if isDone:
            self._done(job)
        elif isDone is not None and isWanted():
            return False
        elif isDone is not None:
            await self._giveBack(job)
        return True

    async def _carefully(
        self, job: Job, attempt: Coroutine[Deferred[Any], Any, bool]
    ) -> bool | None:
        """What comes of an attempt; None where it failed, and the job is dealt with."""
        try:
            return await attempt
        except (Unavailable, OutOfRoom) as error:
            self._failed(Failure(error))
            await self._giveBack(job)
        except CancelledError:
            raise
        except Exception:
            self._log.failure("message {id} cannot be sent now", id=job.message.id)
            await self._answer(job, r.LOCAL_ERROR)
        return None

    async def _answer(self, job: Job, reply: Reply) -> None:
        try:
            await self._delivery.answer(job, reply)
        except CancelledError:
            raise
        except Exception:
            self._log.failure("what became of {id} is not written", id=job.message.id)
        self._done(job)

    async def _giveBack(self, job: Job) -> None:
        """It cannot be sent now, through no fault of its next hop."""
        try:
            await self._claims.release(job.items)
        except StoreError as error:
            self._failed(Failure(error))
