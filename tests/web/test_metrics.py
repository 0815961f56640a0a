"""The table of metrics, and what is made of it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from mailsrv.web.metrics import METRICS, Metric, named, receivingValues, samplesOf
from mailsrv.web.receiving import BUCKETS, Counts

ROOT = Path(__file__).parents[2]
TABLE = {metric.name: metric for metric in METRICS}


@pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.name)
def test_names_are_as_prometheus_wants_them(metric: Metric) -> None:
    assert re.fullmatch(r"smtpstore(_[a-z]+)+", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help
    assert not metric.help.endswith(".")


def test_no_name_stands_there_twice() -> None:
    assert len(TABLE) == len(METRICS)


def test_a_histogram_counts_each_message_in_every_bucket_that_it_fits() -> None:
    stored = [1, 2, *[0] * (len(BUCKETS) - 2), 4]
    values = receivingValues(Counts(stored=stored, seconds=0.5))
    metric = TABLE["smtpstore_commit_seconds"]
    samples = list(samplesOf(metric, values[metric.name]))
    buckets = {labels["le"]: number for suffix, labels, number in samples if labels}
    assert [buckets[bound] for bound in ("0.001", "0.002", "30.0", "+Inf")] == [1, 3, 3, 7]
    assert samples[-2:] == [("_sum", {}, 0.5), ("_count", {}, 7)]
    assert values["smtpstore_messages_stored_total"] == 7


def test_what_nobody_knows_is_left_out_and_the_rest_is_in_the_tables_order() -> None:
    given = [{"smtpstore_relay_held": 1}, {"smtpstore_sessions_open": 2}]
    assert [metric.name for metric, _ in named(given)] == [
        "smtpstore_sessions_open",
        "smtpstore_relay_held",
    ]


def test_the_dashboard_shows_every_metric_and_none_that_is_not_there() -> None:
    dashboard = json.loads((ROOT / "contrib" / "grafana" / "smtpstore.json").read_text("utf-8"))
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    shown = {
        re.sub("_bucket$", "", name)
        for query in queries
        for name in re.findall(r"smtpstore\w+", query)
    }
    assert shown == set(TABLE)
    for query in queries:
        assert query.count("(") == query.count(")")
        counters = re.findall(r"(\w*)\(?(smtpstore_\w+_total)", query)
        assert all(function == "rate" for function, _ in counters)
