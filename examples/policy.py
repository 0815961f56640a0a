"""A policy of your own: greylisting. Who comes for the first time is asked to come again."""

from twisted.internet.interfaces import IReactorTime

from mailsrv import ITransaction, Mailbox, Policy, reply

COME_AGAIN = reply(451, "4.7.1", "Greylisted, please try again in a minute")


class Greylist(Policy):
    """451 to a sender, recipient and client not seen together before, for `delay` seconds."""

    def __init__(self, clock: IReactorTime, delay: float = 60.0) -> None:
        self._clock = clock
        self._delay = delay
        self._seen: dict[tuple[str, str, str], float] = {}

    def atRcpt(self, transaction: ITransaction, forwardPath: Mailbox):
        triplet = (transaction.session.peer, transaction.reversePath.key, forwardPath.key)
        first = self._seen.setdefault(triplet, self._clock.seconds())
        return None if self._clock.seconds() - first >= self._delay else COME_AGAIN
