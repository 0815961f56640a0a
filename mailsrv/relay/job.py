"""A message for some addresses of one next hop: what is tried at once, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from mailsrv.interfaces import Outcome, QueuedMessage, QueueItem
from mailsrv.relay.report import Reported, statusOf
from mailsrv.relay.schedule import Schedule
from mailsrv.smtp.local import local
from mailsrv.smtp.notify import wants
from mailsrv.smtp.reply import Reply

MAX_RECIPIENTS = 100  # of one transaction; every server takes as many (RFC 5321 §4.5.3.1.8)
MAX_SAID = 1000  # characters of a reply that are kept and logged
EXPIRED = "4.4.7"  # delivery time expired (RFC 3463)

LOOP = local(554, "5.4.6", "The message has been through too many hands: it goes in a circle")


@dataclass(frozen=True, slots=True)
class Job:
    """One transaction: a message, and the queue's items that it is for."""

    message: QueuedMessage
    items: tuple[QueueItem, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of an item now, and what its sender is told (None: nothing)."""

    outcome: Outcome
    reported: Reported | None


def jobsOf(items: Iterable[QueueItem], hopOf: Callable[[str], str]) -> Iterable[tuple[str, Job]]:
    """The items by next hop and message, each with its hop; in the order of their first items."""
    groups: dict[tuple[str, str], list[QueueItem]] = {}
    for item in items:
        groups.setdefault((hopOf(item.domain), item.message.id), []).append(item)
    for (hop, _), group in groups.items():
        for start in range(0, len(group), MAX_RECIPIENTS):
            some = group[start : start + MAX_RECIPIENTS]
            yield hop, Job(some[0].message, tuple(some))


def judge(
    item: QueueItem,
    reply: Reply,
    *,
    now: datetime,
    schedule: Schedule,
    remote: str,
    passesOn: bool,
    chance: float = 0.5,
) -> Verdict:
    """What a reply makes of an item: 2yz sent, 5yz failed, all else tried again while there is
    time. `remote`: who said it. `passesOn`: whether the next hop reports by itself (DSN).
    `chance`: of the schedule; the same for all that shall stay together."""
    said = reply.octets.decode("utf-8", "replace").rstrip("\r\n").replace("\r\n", " / ")[:MAX_SAID]

    def reported(action: str, status: str, until: datetime | None = None) -> Reported:
        return Reported(action, item.recipient, item.parameters, status, reply, remote, until)

    if reply.code // 100 == 2:
        tells = not passesOn and wants(item.parameters, "SUCCESS")
        report = reported("relayed", statusOf(reply)) if tells else None
        return Verdict(Outcome(item, "sent", said), report)
    isFinal = reply.code // 100 == 5
    next = None if isFinal else schedule.next(item.attempts + 1, item.createdAt, now, chance)
    if next is None:
        status = statusOf(reply) if isFinal else EXPIRED
        tells = wants(item.parameters, "FAILURE")
        return Verdict(Outcome(item, "failed", said), reported("failed", status) if tells else None)
    isDelayed = (
        not item.isDelayReported
        and schedule.isLate(item.createdAt, now)
        and wants(item.parameters, "DELAY")
    )
    until = item.createdAt + schedule.lifetime
    report = reported("delayed", statusOf(reply), until) if isDelayed else None
    return Verdict(Outcome(item, "waiting", said, next, isDelayed), report)


def reportedOf(verdicts: Sequence[Verdict]) -> list[Reported]:
    """Those of the recipients that the sender is told of."""
    return [verdict.reported for verdict in verdicts if verdict.reported is not None]
