"""The store in SQL tables: a message is stored when its transaction is committed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from zope.interface import implementer

from mailsrv.interfaces import IMessageStore
from mailsrv.smtp.errors import CannotStore, OutOfRoom, StoreError, Unavailable
from mailsrv.smtp.message import Message
from mailsrv.store.dialect import Fault
from mailsrv.store.groupcommit import Abandoned, Batch, GroupCommit
from mailsrv.store.pool import ConnectionPool, OutcomeUnknown
from mailsrv.store.queries import Txn
from mailsrv.store.queries.events import insertEventsTxn
from mailsrv.store.queries.messages import deleteMessagesTxn, findIdsTxn, insertMessagesTxn
from mailsrv.store.queries.queue import insertQueueTxn
from mailsrv.store.queries.recipients import insertRecipientsTxn
from mailsrv.store.retractions import Retractions

FIRST_PAUSE = 0.05  # seconds before a batch is tried again, doubled each time
LAST_PAUSE = 1.0
_BESIDE = 7 << 10  # octets that are written for a message beside its content

MessageBatch = Batch[Message, str]
Results = list[str | Exception]
WriteTxn = Callable[[Txn, MessageBatch], None]

_ANSWERS: dict[Fault, type[StoreError]] = {
    Fault.UNAVAILABLE: Unavailable,
    Fault.TABLES: Unavailable,
    Fault.FULL: OutOfRoom,
}
_LOST = {Fault.UNAVAILABLE, Fault.DUPLICATE}  # no answers while an outcome is unknown


@implementer(IMessageStore)
class SqlStore:
    """Writes messages, their recipients and their queue rows, many to a transaction.

    Owns each message's content from `store` on, and closes it once. What the database fails
    with becomes an answer here, by its dialect's table of faults; nothing is ever answered as
    stored that is not. The pool is its own, and closed with it. `destinations`: whom each message
    is an event for.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        clock: IReactorTime,
        timeout: float = 30.0,
        log: Logger | None = None,
        destinations: Sequence[str] = (),
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._timeout = timeout
        self._log = log or Logger()
        self._trouble: Fault | None = None
        self._retractions = Retractions(pool, clock, self._log)
        self._destinations = tuple(dict.fromkeys(destinations))
        self._group: GroupCommit[Message, str] = GroupCommit(
            lambda batch: Deferred.fromCoroutine(self._write(batch, self._insertTxn)),
            clock,
            release=self._release,
            slots=pool.threads,
        )

    def store(self, message: Message) -> Deferred[str]:
        # One alone finds out whether a database that is down still is, if only at its turn's end.
        if self._pool.isProbing or (self._pool.isDown and self._group.waiting):
            self._release(message)
            return fail(Unavailable("the database is down"))
        deadline = self._clock.seconds() + self._timeout
        return self._group.add(message, message.content.size, deadline)

    def close(self, limit: float = 10.0) -> Deferred[None]:
        """Answer all that was given to `store`, within `limit` seconds, and close the pool."""
        return self._group.close(limit).addCallback(self._closed)

    def _closed(self, result: object) -> Deferred[None]:
        self._retractions.close()
        return self._pool.close()

    def _release(self, message: Message) -> None:
        try:
            message.content.close()
        except Exception:
            self._log.failure("The content of {id} could not be closed", id=message.id)

    async def _write(self, batch: MessageBatch, write: WriteTxn) -> Results:
        """Commit a batch, however often that takes; one result a message."""
        pause = FIRST_PAUSE
        octets = batch.cost + _BESIDE * len(batch.entries)
        cause: Exception
        while True:
            try:
                await self._pool.runInteractionBy(batch.deadline, octets, write, batch)
            except OutcomeUnknown as error:
                write, cause = self._insertMissingTxn, error
                self._noteTrouble(Fault.UNAVAILABLE, error)
            except Abandoned as error:
                return self._fail(batch, write, error)
            except Exception as error:
                cause = error
                fault = self._faultOf(error, write)
                self._noteTrouble(fault, error)
                if fault in _ANSWERS:
                    return self._fail(batch, write, _ANSWERS[fault]("the database has failed"))
                if fault is not Fault.TRANSIENT:
                    return await self._writeApart(batch, write, error)
            else:
                self._noteSuccess()
                self._retractions.add([message.id for message in batch.givenUp])
                return [message.id for message in batch.items]
            if self._clock.seconds() + pause >= batch.deadline:
                self._noteTrouble(Fault.UNAVAILABLE, cause)
                return self._fail(batch, write, Unavailable("the database has not recovered"))
            await deferLater(self._clock, pause)
            pause = min(2 * pause, LAST_PAUSE)

    def _faultOf(self, error: Exception, write: WriteTxn) -> Fault:
        isRefused = isinstance(error, StoreError)  # by the pool
        fault = Fault.UNAVAILABLE if isRefused else self._pool.dialect.classify(error)
        isUnknown = write == self._insertMissingTxn
        return Fault.TRANSIENT if isUnknown and fault in _LOST else fault

    def _fail(self, batch: MessageBatch, write: WriteTxn, error: Exception) -> Results:
        """The batch is not stored; and if its outcome is not known, it will not be."""
        if write == self._insertMissingTxn:
            self._retractions.add([message.id for message in batch.items])
        return [error for _ in batch.entries]

    async def _writeApart(self, batch: MessageBatch, write: WriteTxn, error: Exception) -> Results:
        """Halve until a message that cannot be stored is alone."""
        if len(batch.entries) == 1:
            message = batch.items[0]
            self._log.error(
                "Message {id} from {sender!r} cannot be stored: {error}",
                id=message.id, sender=message.sender, error=error,
            )  # fmt: skip
            return self._fail(batch, write, CannotStore(str(error)))
        results: Results = []
        for half in batch.halves():
            results += await self._write(half, write)
        return results

    def _insertTxn(self, txn: Txn, batch: MessageBatch, stored: Collection[str] = ()) -> None:
        messages = [message for message in batch.items if message.id not in stored]
        with self._pool.dialect.pipelined(txn):  # what it fails with is known before `mark`
            insertMessagesTxn(txn, messages)
            insertRecipientsTxn(txn, messages)
            insertQueueTxn(txn, messages)
            if self._destinations:
                insertEventsTxn(txn, messages, self._destinations)
        withdrawn = batch.mark()
        if withdrawn:
            deleteMessagesTxn(txn, [message.id for message in withdrawn])

    def _insertMissingTxn(self, txn: Txn, batch: MessageBatch) -> None:
        """Write what a COMMIT without an answer has not left there."""
        ids = [message.id for message in batch.items]
        stored = findIdsTxn(txn, ids, self._pool.dialect.lockingRead)
        self._insertTxn(txn, batch, stored)

    def _noteTrouble(self, fault: Fault, error: BaseException) -> None:
        """Log what keeps mail from being stored, once until it changes."""
        if fault is self._trouble or fault not in _ANSWERS:
            return
        self._trouble = fault
        where = self._pool.dialect.describe()
        if fault is Fault.TABLES:
            self._log.critical(
                "The tables of {where} are missing or wrong, no mail is accepted;"
                " run: smtpstore init ({error})",
                where=where, error=error,
            )  # fmt: skip
        else:
            self._log.error("{where} takes no mail: {error}", where=where, error=error)

    def _noteSuccess(self) -> None:
        if self._trouble is not None:
            self._trouble = None
            self._log.info("{where} takes mail again", where=self._pool.dialect.describe())
