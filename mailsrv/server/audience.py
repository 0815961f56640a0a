"""Those who are told what sessions do."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.logger import Logger
from zope.interface import implementer

from mailsrv.interfaces import ISession, ISessionObserver
from mailsrv.smtp.message import Message
from mailsrv.smtp.reply import Reply

_FAILED = "an observer has failed"

_log = Logger()


@implementer(ISessionObserver)
class Audience:
    """All observers of a server as one.

    One that fails is logged, and changes nothing for the others or for the client: a message that
    is committed is answered 250, whatever becomes of the news.
    """

    def __init__(self, observers: Sequence[ISessionObserver]) -> None:
        self._observers = observers

    def sessionOpened(self, session: ISession) -> None:
        for observer in self._observers:
            try:
                observer.sessionOpened(session)
            except Exception:
                _log.failure(_FAILED)

    def sessionClosed(self, session: ISession, reason: str) -> None:
        for observer in self._observers:
            try:
                observer.sessionClosed(session, reason)
            except Exception:
                _log.failure(_FAILED)

    def commandRefused(self, session: ISession, verb: str, argument: bytes, reply: Reply) -> None:
        for observer in self._observers:
            try:
                observer.commandRefused(session, verb, argument, reply)
            except Exception:
                _log.failure(_FAILED)

    def messageStored(self, session: ISession, message: Message, seconds: float) -> None:
        for observer in self._observers:
            try:
                observer.messageStored(session, message, seconds)
            except Exception:
                _log.failure(_FAILED)
