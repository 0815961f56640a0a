"""From the end of the data to the COMMIT."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailsrv.interfaces import Answer, ISession, MaybeDeferredReply
from mailsrv.server.site import Site
from mailsrv.server.trace import missingFields, protocolName, traceLines
from mailsrv.server.transaction import Transaction
from mailsrv.server.vetoes import firstVeto
from mailsrv.smtp import reply as r
from mailsrv.smtp.message import Message, Summary
from mailsrv.smtp.reply import Reply

_log = Logger()

HEADER = 262_144  # octets that are looked at for the fields of a submission


class Delivery:
    """A transaction whose content is complete, on its way into the store.

    In this order: the policies, the extraction, the trace, the store, the observers. Callbacks and
    no coroutine, since of these usually the store alone makes wait: 3 µs a message less.
    """

    __slots__ = ("_began", "_message", "_session", "_site", "_spool", "_transaction")

    def __init__(self, site: Site, session: ISession, transaction: Transaction) -> None:
        assert transaction.spool is not None
        self._site = site
        self._session = session
        self._transaction = transaction
        self._spool = transaction.spool
        self._message: Message | None = None
        self._began = site.seconds()

    def start(self) -> MaybeDeferredReply:
        """Returns the Reply to the client: a policy's, or 250 with the message's id, after its
        COMMIT. Raises, or fails with, what the store fails with. The spool is the store's from
        then on. (RFC 5321 §6.1)
        """
        veto = firstVeto(self._site.contentChecks, self._transaction, self._spool)
        if veto is None or isinstance(veto, Reply):
            return self._judged(veto)
        return veto.addCallback(self._judged)

    def _judged(self, veto: Answer) -> MaybeDeferredReply:
        if veto is not None:
            return veto
        try:
            summary = self._site.extract(self._spool)
        except Exception:
            summary = _unreadable(Failure())
        if isinstance(summary, Summary):
            return self._extracted(summary)
        return summary.addErrback(_unreadable).addCallback(self._extracted)

    def _extracted(self, summary: Summary) -> Deferred[Reply]:
        site, session, transaction = self._site, self._session, self._transaction
        receivedAt = site.now()
        messageId = site.ids.new(receivedAt)
        protocol = protocolName(session, "SMTPUTF8" in transaction.parameters)
        trace = traceLines(
            session,
            sender=str(transaction.reversePath),
            recipients=transaction.recipients,
            messageId=messageId,
            receivedAt=receivedAt,
            protocol=protocol,
        )
        if session.isSubmission:
            head = self._spool.head(HEADER)
            trace += missingFields(head, messageId, session.hostname, receivedAt)
        self._message = transaction.close(
            messageId=messageId,
            receivedAt=receivedAt,
            content=self._spool,
            summary=summary,
            protocol=protocol,
            trace=trace,
        )
        return site.store.store(self._message).addCallback(self._stored)

    def _stored(self, _: str) -> Reply:
        message = self._message
        assert message is not None
        seconds = self._site.seconds() - self._began
        self._site.observer.messageStored(self._session, message, seconds)
        return r.reply(250, "2.0.0", f"OK id={message.id}")


def _unreadable(failure: Failure) -> Summary:
    """Parsing never decides whether mail is kept."""
    if failure.check(CancelledError) is not None:
        failure.raiseException()
    _log.failure(
        "subject, date and body cannot be extracted; the message is stored without", failure
    )
    return Summary()
