"""Observers are told, and change nothing."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from mailsrv.interfaces import ISessionObserver
from mailsrv.server.audience import Audience
from smtpconversation import ENVELOPE, MESSAGE, Server


@implementer(ISessionObserver)
class BrokenObserver:
    """Fails at whatever it is told."""

    def sessionOpened(self, session: Any) -> None:
        raise ZeroDivisionError("opened")

    def sessionClosed(self, session: Any, reason: str) -> None:
        raise ZeroDivisionError("closed")

    def commandRefused(self, session: Any, verb: str, argument: bytes, reply: Any) -> None:
        raise ZeroDivisionError("refused")

    def messageStored(self, session: Any, message: Any, seconds: float) -> None:
        raise ZeroDivisionError("stored")


class TestAudience(SynchronousTestCase):
    def test_is_an_observer_itself(self) -> None:
        verifyObject(ISessionObserver, Audience([]))

    def test_an_observer_that_fails_is_logged_and_changes_no_answer(self) -> None:
        server = Server(observers=[BrokenObserver()])
        client = server.greeted("FOO", *ENVELOPE, "DATA")
        self.assertTrue(client.say(*MESSAGE).startswith(b"250 2.0.0 OK id="))
        client.leave()
        self.assertEqual(
            [str(failure.value) for failure in self.flushLoggedErrors(ZeroDivisionError)],
            ["opened", "refused", "stored", "closed"],
        )
        for word in ("opened", "refused", "stored", "closed"):
            self.assertEqual(len(server.observer.named(word)), 1, word)
