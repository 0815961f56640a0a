"""Every metric, once: its name, what kind it is, and what it says."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from mailsrv.web.receiving import BUCKETS, Counts

# A value, or a value for each value of the label; of a histogram the number in each bucket, each
# counted in all that follow, with the sum.
Value = float | Mapping[str, float] | tuple[Sequence[float], float]
Values = Mapping[str, Value]


@dataclass(frozen=True, slots=True)
class Metric:
    """One row of the table. `kind`: counter, gauge or histogram. `label`: its only one, or ''."""

    name: str
    kind: str
    help: str
    label: str = ""


METRICS = (
    Metric("smtpstore_sessions_opened_total", "counter", "Clients that connected"),
    Metric("smtpstore_sessions_open", "gauge", "Clients that are connected now"),
    Metric("smtpstore_messages_stored_total", "counter", "Messages committed"),
    Metric("smtpstore_messages_stored_bytes_total", "counter", "Their octets"),
    Metric(
        "smtpstore_commit_seconds",
        "histogram",
        "From the end of a message's data to its COMMIT",
    ),
    Metric(
        "smtpstore_commands_refused_total",
        "counter",
        "Commands, and contents, answered 4yz or 5yz, by reply code",
        "code",
    ),
    Metric(
        "smtpstore_spool_bytes", "gauge", "What messages hold until their COMMIT: memory, disk",
        "place",
    ),
    Metric(
        "smtpstore_spool_limit_bytes", "gauge", "The most they may: --spool-memory, --spool-disk",
        "place",
    ),
    Metric(
        "smtpstore_relay_attempts_total",
        "counter",
        "Addresses elsewhere that were tried: sent, deferred (tried again later), failed",
        "outcome",
    ),
    Metric("smtpstore_relay_reports_total", "counter", "Delivery status notifications made"),
    Metric("smtpstore_relay_connections", "gauge", "Connections to other servers now"),
    Metric("smtpstore_relay_held", "gauge", "Addresses claimed, to be tried now"),
    Metric(
        "smtpstore_database_up",
        "gauge",
        "1: it has answered within the last seconds; 0: the metrics below are left out",
    ),
    Metric(
        "smtpstore_queue_addresses",
        "gauge",
        "Addresses elsewhere that mail is queued for: waiting, failed; counted up to 100,000",
        "state",
    ),
    Metric("smtpstore_queue_oldest_seconds", "gauge", "How long the oldest of them has waited"),
    Metric(
        "smtpstore_events",
        "gauge",
        "Events for the application: waiting, dead (given up); counted up to 100,000",
        "state",
    ),
    Metric("smtpstore_events_oldest_seconds", "gauge", "How long the oldest of them has waited"),
)  # fmt: skip


def receivingValues(counts: Counts) -> Values:
    """What was received."""
    stored = list(accumulate(counts.stored))
    return {
        "smtpstore_sessions_opened_total": counts.opened,
        "smtpstore_sessions_open": counts.opened - counts.closed,
        "smtpstore_messages_stored_total": stored[-1],
        "smtpstore_messages_stored_bytes_total": counts.octets,
        "smtpstore_commit_seconds": (stored, counts.seconds),
        "smtpstore_commands_refused_total": dict(sorted(counts.refused.items())),
        "smtpstore_spool_bytes": {"memory": counts.memory, "disk": counts.disk},
        "smtpstore_spool_limit_bytes": {"memory": counts.memoryLimit, "disk": counts.diskLimit},
    }


def samplesOf(metric: Metric, value: Value) -> Iterator[tuple[str, dict[str, str], float]]:
    """Suffix of the name, labels and number of each line of a metric."""
    if isinstance(value, tuple):
        buckets, total = value
        for bound, count in zip((*BUCKETS, float("inf")), buckets, strict=True):
            yield "_bucket", {"le": "+Inf" if bound == float("inf") else str(bound)}, count
        yield "_sum", {}, total
        yield "_count", {}, buckets[-1]
    elif isinstance(value, Mapping):
        yield from (("", {metric.label: word}, number) for word, number in value.items())
    else:
        yield "", {}, value


def named(values: Iterable[Values]) -> Iterator[tuple[Metric, Value]]:
    """The metrics that there are values for, in the order of the table."""
    known = {name: value for each in values for name, value in each.items()}
    yield from ((metric, known[metric.name]) for metric in METRICS if metric.name in known)
