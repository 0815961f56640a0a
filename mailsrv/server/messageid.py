"""The ids of messages."""

from __future__ import annotations

import os
from datetime import datetime

from ulid import ULID

_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(high + low for high in _DIGITS for low in _DIGITS)
_COUNTED = 4  # digits at the end of an id


class MessageIds:
    """Gives ids: ULIDs, each later than the one before while the clock is not set back.

    Those of a millisecond have 60 random bits in common and behind them a number: 0.5 µs, where a
    ULID of its own takes 6. At full speed four of five are of a millisecond that has one already.
    """

    __slots__ = ("_beginning", "_count", "_milliseconds")

    def __init__(self) -> None:
        self._milliseconds = -1
        self._beginning = ""
        self._count = 0

    def new(self, now: datetime) -> str:
        """An id for a message that came `now` (aware); 26 characters."""
        milliseconds = int(now.timestamp() * 1000)
        if milliseconds != self._milliseconds:
            own = ULID(milliseconds.to_bytes(6, "big") + os.urandom(10))
            self._beginning = str(own)[:-_COUNTED]
            self._milliseconds = milliseconds
            self._count = 0
        high, low = divmod(self._count, len(_PAIRS))
        self._count += 1
        return f"{self._beginning}{_PAIRS[high]}{_PAIRS[low]}"
