"""The way to a domain: its hosts in turn, until one answers (RFC 5321 §5.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import Deferred

from mailsrv.client.nexthop import LOOP, NextHop, NoNextHop
from mailsrv.client.transport import EsmtpTransport
from mailsrv.interfaces import UnexpectedReply
from mailsrv.smtp import local
from mailsrv.smtp.reply import Reply

MAX_HOSTS = 5


class Route:
    """Connects to the best of the hosts that will have us.

    `find`: the hosts of a name, best first (a method of NextHops). `transports`: the ways to
    reach a host, not connected yet: each after the first is tried where the TLS of the one
    before fails, so that the last may do without (RFC 7435). `isUs`: whether a connection leads
    back to this server; hosts from there on are not asked (§5.1).
    """

    def __init__(
        self,
        find: Callable[[str], Deferred[Sequence[NextHop]]],
        transports: Callable[[NextHop], Iterable[EsmtpTransport]],
        isUs: Callable[[EsmtpTransport], bool] = lambda _: False,
    ) -> None:
        self._find = find
        self._isUs = isUs
        self._transports = transports

    def connect(self, name: str) -> Deferred[EsmtpTransport]:
        """A transport that is ready for mail; fails with UnexpectedReply where nobody takes it.

        A 4yz of any host outweighs the 5yz of others: it may take the mail another time.
        """
        return Deferred.fromCoroutine(self._connect(name))

    async def _connect(self, name: str) -> EsmtpTransport:
        try:
            hops = await self._find(name)
        except NoNextHop as nowhere:
            raise UnexpectedReply(nowhere.reply) from None
        answers: list[Reply] = []
        for hop in hops[:MAX_HOSTS]:
            transport = await self._reach(hop, answers)
            if transport is None:
                continue
            if not self._isUs(transport):
                return transport
            transport.quit()
            answers.append(LOOP)
            break
        temporary = [answer for answer in answers if answer.code // 100 == 4]
        raise UnexpectedReply((temporary or answers)[0])

    async def _reach(self, hop: NextHop, answers: list[Reply]) -> EsmtpTransport | None:
        """A transport that is ready; None where there is none, and `answers` say why."""
        for transport in self._transports(hop):
            try:
                await transport.connect()
            except UnexpectedReply as error:
                answers.append(error.reply)
                if error.reply != local.TLS_FAILED:
                    break
            else:
                return transport
        return None
