"""From the end of the data to the COMMIT."""

from __future__ import annotations

from functools import partial

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from ulid import ULID

from mailsrv.interfaces import ISession
from mailsrv.server.site import Site
from mailsrv.server.spool import Spool
from mailsrv.server.trace import missingFields, protocolName, traceLines
from mailsrv.server.transaction import Transaction
from mailsrv.server.vetoes import firstVeto
from mailsrv.smtp import reply as r
from mailsrv.smtp.message import Summary
from mailsrv.smtp.reply import Reply

_log = Logger()

HEADER = 262_144  # octets that are looked at for the fields of a submission


async def deliver(site: Site, session: ISession, transaction: Transaction) -> Reply:
    """Ask the policies, extract, add the trace, and hand the message to the store.

    Returns the Reply to the client: 250 with the message's id, after its COMMIT; or a policy's.
    Raises what the store fails with. The spool is the store's from then on. (RFC 5321 §6.1)
    """
    spool = transaction.spool
    assert spool is not None
    began = site.seconds()
    veto = firstVeto(partial(policy.atContent, transaction, spool) for policy in site.policies)
    if isinstance(veto, Deferred):
        veto = await veto
    if veto is not None:
        return veto
    summary = await _summaryOf(site, spool)
    messageId, receivedAt = str(ULID()), site.now()
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
        trace += missingFields(spool.head(HEADER), messageId, session.hostname, receivedAt)
    message = transaction.close(
        messageId=messageId,
        receivedAt=receivedAt,
        content=spool,
        summary=summary,
        protocol=protocol,
        trace=trace,
    )
    await site.store.store(message)
    seconds = site.seconds() - began
    for observer in site.observers:
        observer.messageStored(session, message, seconds)
    return r.reply(250, "2.0.0", f"OK id={messageId}")


async def _summaryOf(site: Site, spool: Spool) -> Summary:
    """What can be read out of the message: parsing never decides whether mail is kept."""
    try:
        summary = site.extract(spool)
        return await summary if isinstance(summary, Deferred) else summary
    except CancelledError:
        raise
    except Exception:
        _log.failure("subject, date and body cannot be extracted; the message is stored without")
        return Summary()
