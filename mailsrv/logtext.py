"""The text of the log, as twistd writes it, for a twelfth of the time."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

from twisted.logger import FileLogObserver, ILogObserver, LogEvent, Logger, LogLevel, formatTime

# Fields that are bare names, perhaps with !r: what Twisted's formats and Python's do alike.
_PLAIN = re.compile(r"(?:[^{}]|\{[A-Za-z_]\w*(?:!r)?\})+")
_SPECIAL = frozenset({"log_failure", "log_flattened", "log_system"})


class LogText:
    """The line, or the lines, of an event: what `formatEventAsClassicLogText` makes of it.

    Of the 12 µs which that takes for a stored message, 6 go to the time of day and 5 to the format.
    Here the text of a second is kept for the whole of it, and a plain format is left to Python: 0.9
    µs. Whatever is not plain goes to `other`. Any thread may call it.
    """

    def __init__(self, other: Callable[[LogEvent], str | None]) -> None:
        self._other = other
        self._second = 0.0, formatTime(0.0)  # in one, as threads may look at it at once

    def __call__(self, event: LogEvent) -> str | None:
        try:
            line = self._plain(event)
        except Exception:
            line = ""  # how to say what is wrong with an event is Twisted's to know
        return line or self._other(event)

    def _plain(self, event: LogEvent) -> str:
        """The line of an event that has nothing but a plain format; else empty, or it fails."""
        form = event["log_format"]
        if not (_isPlain(form) and _SPECIAL.isdisjoint(event)):
            return ""
        text = form.format_map(event)
        if not text:
            return ""
        system = f"{event['log_namespace']}#{event['log_level'].name}"
        line = f"{self._time(event['log_time'])} [{system}] {text}"
        return line.replace("\n", "\n\t") + "\n"

    def _time(self, when: float) -> str:
        second, text = self._second
        if not 0.0 <= when - second < 0.999:
            second = when // 1.0
            if when - second >= 0.999:
                return formatTime(when)  # may be rounded up to the next second
            text = formatTime(second)
            self._second = second, text
        return text


@lru_cache(maxsize=256)
def _isPlain(form: str) -> bool:
    return _PLAIN.fullmatch(form) is not None


def useLogText() -> None:
    """Have whoever writes the global log as text write it by `LogText`, once logging has begun.

    That is the observer which twistd makes for its standard output or for --logfile. Not a letter
    changes: one that does not write as twistd does is left alone. To find it, an event without text
    asks for its trace.
    """
    trace: list[tuple[object, ILogObserver]] = []
    Logger(namespace="smtpstore").debug(log_trace=trace)
    for _, observer in trace:
        if isinstance(observer, FileLogObserver):
            quick = LogText(observer.formatEvent)
            if quick(_sample()) == observer.formatEvent(_sample()):
                observer.formatEvent = quick


def _sample() -> LogEvent:
    """An event, made anew as an observer may add to it."""
    return {
        "first": "one\ntwo",
        "second": "three",
        "log_level": LogLevel.info,
        "log_namespace": "smtpstore",
        "log_format": "{first} and {second!r}",
        "log_time": 1e9,
    }
