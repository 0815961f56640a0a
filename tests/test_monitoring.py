"""What --http answers: every metric, with the database and without it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from mailsrv.monitoring import Monitoring, Received
from mailsrv.process import StartError
from mailsrv.relay.counters import Counters
from mailsrv.server.spool import Spool, SpoolBudget
from mailsrv.smtp.message import Forward
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing import makeMessage
from mailsrv.web.metrics import METRICS, Value
from mailsrv.web.receiving import Counts


class World:
    """A Monitoring on a database of its own, which nobody has made yet."""

    def __init__(self, directory: Path, counters: Counters | None = None) -> None:
        from twisted.internet import reactor

        self.clock: Any = reactor
        self.dialect = parseUrl(f"sqlite:{directory}/mail.db")
        self.monitoring = Monitoring(self.dialect, self.clock, Counts, lambda: counters)

    async def put(self) -> None:
        """A message that waits for its next hop, and for the application."""
        upgrade(self.dialect)
        pool = ConnectionPool(self.dialect, self.clock, 1)
        store = SqlStore(pool, self.clock, destinations=["http://app"])
        forwards = (Forward("bob@far.test", "bob@far.test"),)
        await store.store(makeMessage(b"hello\r\n", recipients=(), forwards=forwards))
        await store.close()

    async def values(self) -> dict[str, Value]:
        values = {k: v for each in await self.monitoring.values() for k, v in each.items()}
        await self.monitoring.close(2.0)
        return values


@pytest_twisted.ensureDeferred
async def test_there_is_a_value_for_every_metric_of_the_table(tmp_path: Path) -> None:
    world = World(tmp_path, Counters(sent=2, deferred=3, failed=4, reports=5, held=1))
    await world.put()
    values = await world.values()
    assert set(values) == {metric.name for metric in METRICS}
    assert values["smtpstore_relay_attempts_total"] == {"sent": 2, "deferred": 3, "failed": 4}
    assert values["smtpstore_database_up"] == 1
    assert values["smtpstore_queue_addresses"] == {"waiting": 1, "failed": 0}
    assert values["smtpstore_events"] == {"waiting": 1, "dead": 0}
    for name in ("smtpstore_queue_oldest_seconds", "smtpstore_events_oldest_seconds"):
        assert float(values[name]) > 0  # type: ignore[arg-type]


@pytest_twisted.ensureDeferred
async def test_where_a_metric_has_several_values_the_table_says_of_what(tmp_path: Path) -> None:
    world = World(tmp_path, Counters())
    await world.put()
    values = await world.values()
    labelled = {name for name, value in values.items() if isinstance(value, dict)}
    assert labelled == {metric.name for metric in METRICS if metric.label}


@pytest_twisted.ensureDeferred
async def test_nothing_waits_since_no_time_at_all(tmp_path: Path) -> None:
    world = World(tmp_path)
    upgrade(world.dialect)
    values = await world.values()
    assert values["smtpstore_queue_oldest_seconds"] == 0
    assert not any(name.startswith("smtpstore_relay_") for name in values)


@pytest_twisted.ensureDeferred
async def test_without_a_database_the_rest_is_there(tmp_path: Path) -> None:
    values = await World(tmp_path, Counters()).values()
    assert values["smtpstore_database_up"] == 0
    assert "smtpstore_sessions_open" in values
    assert not any(name.startswith(("smtpstore_queue", "smtpstore_events")) for name in values)


def test_what_spools_hold_is_part_of_what_is_received(tmp_path: Path) -> None:
    received = Received(SpoolBudget(1000, 2000))
    spool = Spool(received._budget, str(tmp_path))
    spool.write(b"12345")
    counts = received.counts()
    assert (counts.memory, counts.disk) == (5, 0)
    assert (counts.memoryLimit, counts.diskLimit) == (1000, 2000)
    spool.close()
    assert received.counts().memory == 0


def test_without_the_library_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "mailsrv.web.site", raising=False)
    with pytest.raises(StartError, match=r"^--http needs prometheus-client: .*smtpstore\[web\]'$"):
        World(tmp_path)
