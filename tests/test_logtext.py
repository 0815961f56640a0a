"""The text of the log: byte for byte what Twisted itself makes of every event."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import (
    FileLogObserver,
    FilteringLogObserver,
    LogEvent,
    Logger,
    LogLevel,
    LogLevelFilterPredicate,
    LogPublisher,
    eventAsJSON,
    formatTime,
    globalLogPublisher,
    jsonFileLogObserver,
    textFileLogObserver,
)
from twisted.python.failure import Failure

from mailsrv.logtext import LogText, useLogText

NOW = 1_774_659_600.0  # 2026-03-28 01:00 UTC: an hour of a day before summer time begins
ZONES = [
    "UTC0",
    "EST5EDT,M3.2.0,M11.1.0",
    "CET-1CEST,M3.5.0,M10.5.0/3",
    "NST3:30NDT,M3.2.0,M11.1.0",  # half an hour beside the rest, and behind Greenwich
    "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",  # summer time is half an hour
    "LMT-0:19:32",  # an offset with seconds
]

twistedText = textFileLogObserver(io.StringIO()).formatEvent


def untouched(event: LogEvent) -> str | None:
    """Where what is not ours to write would go."""
    raise AssertionError(f"left to Twisted: {event}")


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.environ.get("TZ")
    os.environ["TZ"] = request.param
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


def event(form: Any = "{line}", line: Any = "stored id=1", **more: Any) -> LogEvent:
    values = {"log_namespace": "smtpstore", "log_level": LogLevel.info, "log_time": NOW + 0.25}
    return {"line": line, **values, "log_format": form, **more}


# Times

times = st.one_of(
    st.floats(0, 4e9),
    st.floats(-1e9, 0),
    # From one of the last moments of a second to one of the next, and around summer time.
    st.builds(
        lambda day, hour, moment: day * 86400.0 + hour * 3600.0 + moment,
        st.integers(20_000, 21_000),
        st.integers(0, 23),
        st.one_of(st.sampled_from([-1e-7, 0.0, 0.4999995, 1 - 1e-7, 0.999]), st.floats(-2, 2)),
    ),
)


@pytest.mark.usefixtures("zone")
def test_the_time_of_day_is_that_of_twisted_in_every_zone() -> None:
    @given(st.lists(times, min_size=1, max_size=8))
    def holds(moments: list[float]) -> None:
        text = LogText(untouched)
        for when in moments:
            for near in (when, when + 0.0003, when + 0.9, when):
                made = event(log_time=near)
                assert text(made) == twistedText(made)

    holds()


@pytest.mark.usefixtures("zone")
@pytest.mark.parametrize("turn", [1_774_746_000, 1_793_494_800, 1_772_953_200, 1_775_314_800])
def test_it_is_so_on_both_sides_of_a_change_to_or_from_summer_time(turn: int) -> None:
    text = LogText(untouched)
    for step in range(-30, 30):
        made = event(log_time=turn + step / 8 + 0.0004)
        assert text(made) == twistedText(made)


def test_a_clock_that_goes_back_is_followed() -> None:
    text = LogText(untouched)
    for when in (NOW, NOW + 5, NOW - 3600.5, NOW):
        assert str(text(event(log_time=when))).startswith(formatTime(when) + " [")


# Texts


@given(
    st.text(),
    st.text(),
    st.sampled_from(["{line}", "{line!r}", "a{line}\nb {also}", "{also}{line}", "{{{line}}}"]),
    st.one_of(st.text(), st.integers(), st.none(), st.binary()),
)
def test_every_text_is_written_as_twisted_writes_it(
    line: str, space: str, form: str, also: Any
) -> None:
    made = event(form, line, also=also, log_namespace=space)
    assert LogText(twistedText)(made) == twistedText(made)


@given(st.text("ab{}!r:. 0()[]\n", max_size=12), st.text(max_size=3))
def test_every_format_means_what_it_means_to_twisted(form: str, text: str) -> None:
    made = event(form, a=text, b=[text], ab={"a": text}, r=str)
    assert LogText(twistedText)(made) == twistedText(made)


class Broken:
    def __repr__(self) -> str:
        raise ZeroDivisionError("no name")

    def __str__(self) -> str:
        raise ZeroDivisionError("no text")


@pytest.mark.parametrize(
    "made",
    [
        {},
        {"log_format": "bare"},
        event(None),
        event(""),
        event("{line}", ""),
        event(b"octets {line}"),
        event(7),
        event([]),
        event("{nothing}"),
        event("{0} {} {line"),
        event("{line.upper()} {line()}", line=lambda: "called"),
        event("{line._wrapped} {line.__class__}"),
        event("{line}", Broken()),
        event("{line!r}", Broken()),
        event("{line:>20} {line!s:.3}"),
        event(log_time=None),
        event(log_time=7),
        event(log_level=None),
        event(log_namespace=None),
        event(log_system=None),
        event(log_system="legacy,1,127.0.0.1"),
        event(log_failure=Failure(ZeroDivisionError("division"))),
        event(log_flattened={"line!:": "flat"}),
    ],
)
def test_what_is_out_of_the_ordinary_is_left_to_twisted(made: LogEvent) -> None:
    assert LogText(twistedText)(made) == twistedText(made)


@pytest.mark.parametrize("when", [float("nan"), float("inf"), 1e300])
def test_a_time_that_is_none_fails_as_with_twisted_and_spoils_nothing(when: float) -> None:
    text = LogText(twistedText)
    for write in (text, twistedText):
        with pytest.raises((ValueError, OverflowError)):
            write(event(log_time=when))
    assert text(event()) == twistedText(event())


@pytest.mark.parametrize("form", ["{line}", "refused {line} {also!r}", "Stopped"])
def test_our_own_lines_are_not_left_to_twisted(form: str) -> None:
    made = event(form, also="x")
    assert LogText(untouched)(made) == twistedText(made)


# The log of a process


@pytest.fixture
def observing() -> Iterator[Callable[[Any], None]]:
    """Add observers to the global log, as twistd does."""
    added: list[Any] = []

    def add(observer: Any) -> None:
        added.append(observer)
        globalLogPublisher.addObserver(observer)

    yield add
    for observer in added:
        globalLogPublisher.removeObserver(observer)


def test_the_log_of_twistd_is_written_by_it(observing: Callable[[Any], None]) -> None:
    out = io.StringIO()
    log = textFileLogObserver(out)
    events: list[LogEvent] = []
    observing(log)
    observing(events.append)
    useLogText()
    assert out.getvalue() == ""  # nobody is told of it
    assert isinstance(log.formatEvent, LogText)
    Logger(namespace="smtpstore").info("{line}", line="stored id=1")
    assert out.getvalue() == twistedText(events[-1])


def test_it_may_be_asked_for_twice(observing: Callable[[Any], None]) -> None:
    log = textFileLogObserver(io.StringIO())
    observing(log)
    for _ in range(2):
        useLogText()
    assert log.formatEvent(event()) == twistedText(event())


def inOtherWords(out: Any) -> FileLogObserver:
    return FileLogObserver(out, lambda event: "something has happened\n")


def withoutTime(out: Any) -> FileLogObserver:
    return textFileLogObserver(out, timeFormat=None)


@pytest.mark.parametrize("make", [jsonFileLogObserver, inOtherWords, withoutTime])
def test_a_log_in_another_form_keeps_it(
    make: Callable[[Any], FileLogObserver], observing: Callable[[Any], None]
) -> None:
    log = make(io.StringIO())
    form = log.formatEvent
    observing(log)
    useLogText()
    assert log.formatEvent is form


def test_who_hears_no_debug_events_hears_nothing_of_it(observing: Callable[[Any], None]) -> None:
    heard: list[LogEvent] = []
    publisher = LogPublisher()
    publisher.addObserver(heard.append)  # type: ignore[arg-type]
    observing(FilteringLogObserver(publisher, [LogLevelFilterPredicate()]))
    useLogText()
    assert heard == []


def test_the_event_that_asks_can_be_written_by_any_observer(
    observing: Callable[[Any], None],
) -> None:
    lines: list[str] = []
    observing(lambda event: lines.append(eventAsJSON(event)))
    useLogText()
    assert len(lines) == 1
