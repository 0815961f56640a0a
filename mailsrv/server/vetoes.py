"""Asking several who may refuse."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred

from mailsrv.interfaces import Answer, MaybeDeferredAnswer

Checks = Sequence[Callable[..., MaybeDeferredAnswer]]


def firstVeto(checks: Checks, *about: object) -> MaybeDeferredAnswer:
    """Ask one after the other `about` it until one refuses; a Deferred only where one is met."""
    for asked, check in enumerate(checks, 1):
        answer = check(*about)
        if answer is None:
            continue
        if isinstance(answer, Deferred):
            return answer.addCallback(_orNext, checks[asked:], about)
        return answer
    return None


def _orNext(veto: Answer, checks: Checks, about: tuple[object, ...]) -> MaybeDeferredAnswer:
    return veto or firstVeto(checks, *about)
