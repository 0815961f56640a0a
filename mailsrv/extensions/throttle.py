"""How many wrong passwords an address may try."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv6Address, IPv6Network, ip_address

MAX_ADDRESSES = 10_000


class Throttle:
    """Counts failures by client address: `most` of them within `window` seconds, then no more.

    An IPv6 client counts by its /64. It remembers at most 10,000 addresses, the latest ones.
    `seconds`: a monotonic clock.
    """

    def __init__(self, seconds: Callable[[], float], most: int = 50, window: float = 600.0) -> None:
        self._seconds = seconds
        self._most = most
        self._window = window
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def isClosed(self, address: str) -> bool:
        """Whether `address` has used up its tries."""
        failures = self._failures.get(_network(address))
        if failures is None:
            return False
        while failures and failures[0] <= self._seconds() - self._window:
            failures.popleft()
        return len(failures) >= self._most

    def failed(self, address: str) -> None:
        """Another wrong password from `address`."""
        key = _network(address)
        self._failures.setdefault(key, deque(maxlen=self._most)).append(self._seconds())
        self._failures.move_to_end(key)
        if len(self._failures) > MAX_ADDRESSES:
            self._failures.popitem(last=False)


def _network(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        return str(parsed.ipv4_mapped or IPv6Network((parsed, 64), strict=False))
    return address
