"""Ids: ULIDs, in order, and no two alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from ulid import ULID

from mailsrv.server.messageid import MessageIds

NOON = datetime(2026, 5, 1, 12, 0, 0, 250_000, UTC)


def test_ids_of_one_millisecond_are_ulids_in_order() -> None:
    ids = MessageIds()
    given = [ids.new(NOON) for _ in range(1100)]
    assert given == [str(ULID.from_str(each)) for each in given]
    assert {ULID.from_str(each).datetime for each in given} == {NOON}
    assert given == sorted(set(given))


def test_what_comes_later_has_the_later_id() -> None:
    ids = MessageIds()
    given = [ids.new(NOON + timedelta(milliseconds=each // 3)) for each in range(300)]
    assert given == sorted(set(given))
    assert len({each[10:22] for each in given}) == 100


def test_two_processes_and_a_clock_that_is_set_back_give_no_id_twice() -> None:
    one, other = MessageIds(), MessageIds()
    times = [NOON, NOON + timedelta(milliseconds=1)] * 50
    given = [ids.new(time) for time in times for ids in (one, other)]
    assert len(set(given)) == len(given)
