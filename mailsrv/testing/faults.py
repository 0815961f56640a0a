"""Faults on demand, by address."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from zope.interface import implementer

from mailsrv.interfaces import (
    Answer,
    ISession,
    ISessionObserver,
    ITransaction,
    MaybeDeferredAnswer,
)
from mailsrv.policies.policy import Policy
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox, domainKey
from mailsrv.smtp.message import Content, Message
from mailsrv.smtp.reply import Reply, reply

DOMAINS = tuple(f"{moment}.fault.test" for moment in ("connect", "mail", "rcpt", "data", "stored"))

_WISH = re.compile(r"(?P<code>[45]\d\d)|(?P<drop>drop)|slow-(?P<time>\d+(?:\.\d+)?)(?P<unit>m?s)")


@dataclass(frozen=True, slots=True)
class Fault:
    """A wish: to be answered `code`, to lose the connection, or to wait."""

    code: int = 0
    drops: bool = False
    seconds: float = 0.0


def faultOf(mailbox: Mailbox | str, moment: str) -> Fault | None:
    """What an address asks for at a moment (connect, mail, rcpt, data, stored)."""
    local, _, domain = str(mailbox).rpartition("@")
    match = _WISH.fullmatch(local.lower())
    if match is None or domainKey(domain) != f"{moment}.fault.test":
        return None
    if match["time"]:
        return Fault(seconds=float(match["time"]) / (1000 if match["unit"] == "ms" else 1))
    return Fault(int(match["code"] or 0), bool(match["drop"]))


@implementer(ISessionObserver)
class Faults(Policy):
    """Does what addresses in fault.test ask for, as `mailsrv.testing` tells; a policy, the first
    of all, and an observer.

    `drop(session)` loses a session's connection; without it 421 is said in its place.
    """

    def __init__(
        self, clock: IReactorTime, drop: Callable[[ISession], object] | None = None
    ) -> None:
        self._clock = clock
        self._drop = drop
        self._next: list[Fault] = []  # for the connections to come

    def atConnect(self, session: ISession) -> MaybeDeferredAnswer:
        return self._happen(session, [self._next.pop(0)] if self._next else [])

    def atMail(self, transaction: ITransaction) -> MaybeDeferredAnswer:
        return self._happen(transaction.session, _faults([transaction.reversePath], "mail"))

    def atRcpt(self, transaction: ITransaction, forwardPath: Mailbox) -> MaybeDeferredAnswer:
        self._next += _faults([forwardPath], "connect")
        return self._happen(transaction.session, _faults([forwardPath], "rcpt"))

    def atContent(self, transaction: ITransaction, content: Content) -> MaybeDeferredAnswer:
        addresses = [recipient.address for recipient in transaction.recipients]
        return self._happen(transaction.session, _faults(addresses, "data"))

    def _happen(self, session: ISession, faults: Sequence[Fault]) -> MaybeDeferredAnswer:
        return Deferred.fromCoroutine(self._inTurn(session, faults)) if faults else None

    async def _inTurn(self, session: ISession, faults: Iterable[Fault]) -> Answer:
        for fault in faults:
            if fault.code:
                return _answer(session, fault.code)
            if fault.drops:
                if self._drop is None:
                    return r.unavailable(session.hostname)
                self._drop(session)
                await Deferred()  # until it is lost
            await deferLater(self._clock, fault.seconds)
        return None

    # As an observer

    def messageStored(self, session: ISession, message: Message, seconds: float) -> None:
        faults = _faults([recipient.address for recipient in message.recipients], "stored")
        if self._drop is not None and any(fault.drops for fault in faults):
            self._drop(session)

    def sessionOpened(self, session: ISession) -> None:
        """Nothing happens then."""

    def sessionClosed(self, session: ISession, reason: str) -> None:
        """Nothing happens then."""

    def commandRefused(self, session: ISession, verb: str, argument: bytes, reply: Reply) -> None:
        """Nothing happens then."""


def _faults(addresses: Iterable[Mailbox | str], moment: str) -> list[Fault]:
    wishes = (faultOf(address, moment) for address in addresses)
    return [fault for fault in wishes if fault is not None]


def _answer(session: ISession, code: int) -> Reply:
    name = f"{session.hostname} " if code == 421 else ""
    return reply(code, f"{code // 100}.3.0", f"{name}as asked for by the address")
