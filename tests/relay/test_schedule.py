"""When mail is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mailsrv.relay.schedule import Schedule

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


def test_the_intervals_grow_to_hours_and_the_mail_lives_five_days() -> None:
    schedule, now, attempts, times = Schedule(), NOON, 0, []
    while (next := schedule.next(attempts + 1, NOON, now)) is not None:
        attempts += 1
        times.append((next - now) / timedelta(minutes=1))
        now = next
    assert times[:8] == [1, 5, 15, 30, 60, 120, 240, 240]
    assert now == NOON + timedelta(days=5)  # the last attempt is at the very end
    assert attempts == 36


def test_chance_moves_an_interval_by_a_tenth_either_way() -> None:
    schedule = Schedule()
    spread = [schedule.next(3, NOON, NOON, chance) for chance in (0.0, 0.5, 1.0)]
    minutes = [(time - NOON) / timedelta(minutes=1) for time in spread if time]
    assert minutes == [13.5, 15, 16.5]


def test_the_sender_should_know_after_four_hours() -> None:
    schedule = Schedule()
    assert not schedule.isLate(NOON, NOON + timedelta(hours=3, minutes=59))
    assert schedule.isLate(NOON, NOON + timedelta(hours=4))
