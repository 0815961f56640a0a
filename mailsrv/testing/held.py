"""A store whose COMMIT happens when the test says."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from zope.interface import implementer

from mailsrv.interfaces import IMessageStore
from mailsrv.smtp.message import Message
from mailsrv.store.memory import MemoryStore


@implementer(IMessageStore)
class HeldStore:
    """A store whose COMMIT happens when the test says.

    `waiting` holds the messages under way, oldest first; `commit` and `fail` answer the oldest.
    What is committed goes on to `store`, a MemoryStore unless another is given.
    """

    def __init__(self, store: Any = None) -> None:
        self.stored: Any = MemoryStore() if store is None else store
        self.waiting: list[Message] = []
        self._answers: list[Deferred[str]] = []

    def store(self, message: Message) -> Deferred[str]:
        answer: Deferred[str] = Deferred(self._withdraw)
        self.waiting.append(message)
        self._answers.append(answer)
        return answer

    def commit(self) -> None:
        """Commit the oldest message."""
        message, answer = self.waiting.pop(0), self._answers.pop(0)
        self.stored.store(message).chainDeferred(answer)

    def fail(self, error: Exception) -> None:
        """Fail the oldest message, one of `mailsrv.smtp.errors`."""
        message, answer = self.waiting.pop(0), self._answers.pop(0)
        message.content.close()
        answer.errback(error)

    def _withdraw(self, answer: Deferred[str]) -> None:
        index = self._answers.index(answer)
        del self._answers[index]
        self.waiting.pop(index).content.close()
