"""Asking several who may refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from twisted.internet.defer import Deferred

from mailsrv.interfaces import MaybeDeferredAnswer


def firstVeto(checks: Iterable[Callable[[], MaybeDeferredAnswer]]) -> MaybeDeferredAnswer:
    """Ask one after the other until one refuses; a Deferred only where one is met."""
    remaining = iter(checks)
    for check in remaining:
        answer = check()
        if answer is None:
            continue
        if isinstance(answer, Deferred):
            return answer.addCallback(lambda veto: veto or firstVeto(remaining))
        return answer
    return None
