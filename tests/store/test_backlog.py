"""How much waits in the database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mailsrv.smtp.message import Forward
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mailsrv.store.queries import backlog
from mailsrv.store.queries.backlog import Backlog, backlogTxn
from mailsrv.store.queries.events import insertEventsTxn
from mailsrv.store.queries.messages import insertMessagesTxn
from mailsrv.store.queries.queue import insertQueueTxn
from mailsrv.testing import makeMessage

NOON = datetime(2026, 5, 1, 12, 0, 0, 250, UTC)

pytestmark = pytest.mark.databases


@pytest.fixture
def txn(tmp_path: Path, makeUrl: Callable[[Path], str]) -> Iterator[Any]:
    dialect = parseUrl(makeUrl(tmp_path))
    upgrade(dialect)
    connection = dialect.connect()
    yield connection.cursor()
    connection.close()


def put(txn: Any, count: int, *destinations: str) -> None:
    """Messages a minute apart, each for an address elsewhere and all destinations."""
    messages = [
        makeMessage(
            b"hello\r\n",
            id=f"{number:026d}",
            receivedAt=NOON + timedelta(minutes=number),
            forwards=(Forward("bob@far.test", "bob@far.test"),),
        )
        for number in range(count)
    ]
    insertMessagesTxn(txn, messages)
    insertQueueTxn(txn, messages)
    if destinations:
        insertEventsTxn(txn, messages, destinations)


def test_nothing_waits_in_an_empty_database(txn: Any) -> None:
    assert backlogTxn(txn) == Backlog(
        {"waiting": 0, "failed": 0}, None, {"waiting": 0, "dead": 0}, None
    )


def test_rows_are_counted_by_state_and_the_oldest_that_waits_is_known(txn: Any) -> None:
    put(txn, 5, "http://a", "http://b")
    for number, state in enumerate(("sent", "failed")):
        txn.execute("UPDATE queue SET state = ? WHERE message_id = ?", (state, f"{number:026d}"))
    txn.execute("UPDATE events SET state = 'delivered' WHERE destination = 'http://a'")
    txn.execute(
        "UPDATE events SET state = 'dead' WHERE destination = 'http://b' AND message_id = ?",
        (f"{0:026d}",),
    )
    found = backlogTxn(txn)
    assert found.queue == {"waiting": 3, "failed": 1}
    assert found.queuedSince == NOON + timedelta(minutes=2)
    assert found.events == {"waiting": 4, "dead": 1}
    assert found.putUpSince == NOON + timedelta(minutes=1)


def test_of_very_many_no_more_are_looked_at(txn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backlog, "COUNTED", 3)
    put(txn, 5, "http://a", "http://b")
    found = backlogTxn(txn)
    assert found.queue == {"waiting": 3, "failed": 0}
    assert found.events == {"waiting": 6, "dead": 0}
