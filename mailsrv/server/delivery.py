"""From the end of the data to the COMMIT."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

from twisted.internet.defer import Deferred
from ulid import ULID

from mailsrv.interfaces import ISession, MaybeDeferredAnswer
from mailsrv.server.site import Site
from mailsrv.server.trace import missingFields, protocolName, traceLines
from mailsrv.server.transaction import Transaction
from mailsrv.smtp import reply as r
from mailsrv.smtp.reply import Reply

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
    summary = site.extract(spool)
    if isinstance(summary, Deferred):
        summary = await summary
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


def firstVeto(checks: Iterable[Callable[[], MaybeDeferredAnswer]]) -> MaybeDeferredAnswer:
    """Ask one after the other until one refuses; a Deferred only where one is met."""
    remaining = iter(checks)
    for check in remaining:
        answer = check()
        if isinstance(answer, Deferred):
            return answer.addCallback(lambda veto: veto or firstVeto(remaining))
        if answer is not None:
            return answer
    return None
