"""Who may receive: the tables asked through a pool, or nobody asked at all."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, NoReturn, TypeVar

from twisted.internet.defer import Deferred, fail, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.interfaces import IDirectory, MaybeDeferredReply, Resolution
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox, parseMailbox
from mailsrv.smtp.errors import Unavailable
from mailsrv.smtp.reply import Reply, reply
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.queries import Txn
from mailsrv.store.queries.aliases import aliasesByKeyTxn
from mailsrv.store.queries.groups import groupsByKeyTxn
from mailsrv.store.queries.users import usersByKeyTxn
from mailsrv.store.routing import Entry, Routing, Walk

CANNOT_EXPAND = reply(252, "2.5.0", "Cannot expand the list, but will take mail for it")
_MAX_KEYS = 5000  # in one statement; SQLite takes 32,766 parameters

_T = TypeVar("_T")
_K = TypeVar("_K", bound=Hashable)
_START: Any = None  # what a generator is sent first
_NEVER = (0.0, None)


def _tooLate(_: object, timeout: float) -> NoReturn:
    raise Unavailable(f"no answer within {timeout:g} seconds")


@implementer(IDirectory)
class SinkDirectory:
    """No local domain: everybody receives, and nobody is looked up.

    VRFY and EXPN are answered 252: 250 would claim that somebody verified the address, 550 that
    mail for it is refused, and neither is true of a sink (§3.5.3).
    """

    def resolve(self, forwardPath: Mailbox) -> Resolution:
        """Accepted, stored with no mailbox."""
        return Resolution(r.RECIPIENT_OK)

    def verify(self, string: str) -> Reply:
        """252: mail would be taken."""
        return r.CANNOT_VERIFY

    def expand(self, string: str) -> Reply:
        """252: mail would be taken."""
        return CANNOT_EXPAND

    def owns(self, identity: str, mailbox: Mailbox) -> bool:
        """Whether `mailbox` is the address of the login `identity`: there are no aliases."""
        return mailbox.key == getattr(parseMailbox(identity), "key", None)


@implementer(IDirectory)
class SqlDirectory:
    """The users, aliases and groups of the database, seen through a short memory.

    What it remembers is at most `maxAge` seconds old and `maxEntries` addresses wide, unknown
    ones included. An answer that is not there within `timeout` seconds, or that the database
    fails to give, is Unavailable: never a word about the address. It owns no pool.
    """

    def __init__(
        self,
        pool: ConnectionPool,
        domains: Sequence[str],
        clock: IReactorTime,
        timeout: float = 30.0,
        maxAge: float = 5.0,
        maxEntries: int = 10_000,
    ) -> None:
        self._routing = Routing(domains)
        self._clock = clock
        self._timeout = timeout
        self._memory: _Memory[str, Entry] = _Memory(clock, maxAge, maxEntries)
        self._resolved: _Memory[Mailbox, Resolution] = _Memory(clock, maxAge, maxEntries)
        self._lookUps = _LookUps(pool, self._memory)

    def resolve(self, forwardPath: Mailbox) -> Resolution | Deferred[Resolution]:
        """What RCPT comes to; fails with Unavailable.

        What came out of memory alone is remembered for as long as all it was made of: 4 µs less.
        """
        known = self._resolved.get(forwardPath)
        if known is not None:
            return known
        self._memory.oldest = self._memory.now()
        answer = self._walk(self._routing.resolve(forwardPath))
        if isinstance(answer, Resolution):
            self._resolved.keep(self._memory.oldest, {forwardPath: answer})
        return answer

    def verify(self, string: str) -> MaybeDeferredReply:
        """The reply to VRFY (§3.5); fails with Unavailable."""
        return self._walk(self._routing.verify(string))

    def expand(self, string: str) -> MaybeDeferredReply:
        """The reply to EXPN (§3.5); fails with Unavailable."""
        return self._walk(self._routing.expand(string))

    def owns(self, identity: str, mailbox: Mailbox) -> bool | Deferred[bool]:
        """Whether `mailbox` is the address of the login `identity`, or an alias of it; fails
        with Unavailable."""
        return self._walk(self._routing.owns(identity, mailbox))

    def _walk(self, walk: Walk[_T]) -> _T | Deferred[_T]:
        answer = self._step(walk, _START)
        if isinstance(answer, Deferred):
            answer.addTimeout(self._timeout, self._clock, _tooLate)
        return answer

    def _step(self, walk: Walk[_T], found: Mapping[str, Entry]) -> _T | Deferred[_T]:
        """Go on for as long as the memory knows, then wait for the database."""
        try:
            while True:
                keys = walk.send(found)
                found = self._memory.recall(keys)
                missing = [key for key in keys if key not in found]
                if missing:
                    asked = self._lookUps.ask(missing)
                    return asked.addCallback(partial(self._goOn, walk, found))
        except StopIteration as done:
            answer: _T = done.value
            return answer

    def _goOn(
        self, walk: Walk[_T], known: Mapping[str, Entry], found: Mapping[str, Entry]
    ) -> _T | Deferred[_T]:
        return self._step(walk, {**known, **found})


def lookUpTxn(txn: Txn, keys: Sequence[str]) -> dict[str, Entry]:
    """What users, aliases and groups hold for the keys; an entry for each, known or not."""
    found: dict[str, Entry] = {}
    for start in range(0, len(keys), _MAX_KEYS):
        some = keys[start : start + _MAX_KEYS]
        users = usersByKeyTxn(txn, some)
        aliases = aliasesByKeyTxn(txn, some)
        groups = groupsByKeyTxn(txn, some)
        for key in some:
            found[key] = Entry(users.get(key), aliases.get(key), groups.get(key))
    return found


class _LookUps:
    """One query at a time; what comes meanwhile shares the next one."""

    _log = Logger()

    def __init__(self, pool: ConnectionPool, memory: _Memory[str, Entry]) -> None:
        self._pool = pool
        self._memory = memory
        self._isAsking = False
        self._waiting: list[tuple[Sequence[str], Deferred[Mapping[str, Entry]]]] = []

    def ask(self, keys: Sequence[str]) -> Deferred[Mapping[str, Entry]]:
        """What the tables hold for these keys, among others; fails with Unavailable, at once
        where the database is known to be down and another look-up waits for it already."""
        if self._isAsking and self._pool.isDown:
            return fail(Unavailable("the database is down"))
        answer: Deferred[Mapping[str, Entry]] = Deferred()
        self._waiting.append((keys, answer))
        if not self._isAsking:
            self._askNext()
        return answer

    def _askNext(self) -> None:
        # Who has given up is called already: no question is asked for nobody.
        waiting = [(keys, answer) for keys, answer in self._waiting if not answer.called]
        self._waiting = []
        self._isAsking = bool(waiting)
        if not waiting:
            return
        keys = list(dict.fromkeys(key for keys, _ in waiting for key in keys))
        began = self._memory.now()
        asked = maybeDeferred(self._pool.runInteraction, lookUpTxn, keys)
        asked.addCallback(partial(self._remember, began))
        asked.addErrback(self._failed)
        asked.addCallback(self._tell, [answer for _, answer in waiting])

    def _remember(self, began: float, found: dict[str, Entry]) -> dict[str, Entry]:
        self._memory.keep(began, found)
        return found

    def _failed(self, failure: Failure) -> Unavailable:
        error = f"{type(failure.value).__name__}: {failure.getErrorMessage()}"
        self._log.warn("the directory cannot be asked: {error}", error=" ".join(error.split()))
        return Unavailable("the directory cannot be asked")

    def _tell(
        self,
        result: dict[str, Entry] | Unavailable,
        answers: Iterable[Deferred[Mapping[str, Entry]]],
    ) -> None:
        for answer in answers:
            if isinstance(result, Unavailable):
                answer.errback(Unavailable(*result.args))
            else:
                answer.callback(result)
        self._askNext()


class _Memory(Generic[_K, _T]):
    """What was found lately, and when it was asked for; the oldest is forgotten first.

    `oldest`: lowered to when the oldest of what is recalled was asked for.
    """

    def __init__(self, clock: IReactorTime, maxAge: float, maxEntries: int) -> None:
        self._clock = clock
        self._maxAge = maxAge
        self._maxEntries = maxEntries
        self._entries: dict[_K, tuple[float, _T | None]] = {}
        self.oldest = 0.0

    def now(self) -> float:
        return self._clock.seconds()

    def get(self, key: _K) -> _T | None:
        """What is known of the key and fresh; a clock set back makes all of it stale."""
        asked, entry = self._entries.get(key, _NEVER)
        if entry is None or not 0 <= self._clock.seconds() - asked < self._maxAge:
            return None
        if asked < self.oldest:
            self.oldest = asked
        return entry

    def recall(self, keys: Iterable[_K]) -> dict[_K, _T]:
        """What is known and fresh of these keys."""
        known = ((key, self.get(key)) for key in keys)
        return {key: entry for key, entry in known if entry is not None}

    def keep(self, asked: float, found: Mapping[_K, _T]) -> None:
        """Remember what was found by a look-up that began at `asked`."""
        for key, entry in found.items():
            self._entries.pop(key, None)  # to the end: the order is that of age
            self._entries[key] = (asked, entry)
        while len(self._entries) > self._maxEntries:
            del self._entries[next(iter(self._entries))]
