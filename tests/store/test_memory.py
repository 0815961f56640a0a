"""The memory store, and the store that is held."""

from __future__ import annotations

import pytest
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailsrv.interfaces import IMessageStore
from mailsrv.smtp.errors import OutOfRoom
from mailsrv.smtp.message import Message
from mailsrv.store.memory import MemoryStore
from mailsrv.testing import CountingContent, HeldStore, Store, StoreContract, makeMessage


class MemoryContract(StoreContract):
    isInstant = True

    def __init__(self) -> None:
        self.memory = MemoryStore()

    def makeStore(self, timeout: float = 30.0) -> Store:
        return self.memory

    def read(self, id: str) -> Message | None:
        return self.memory.messages.get(id)


@pytest.mark.parametrize("check", MemoryContract.checks())
def test_memory_store_keeps_the_contract(check: str) -> None:
    result = Deferred.fromCoroutine(getattr(MemoryContract(), check)())
    SynchronousTestCase().successResultOf(result)


class HeldStoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = HeldStore()

    def test_is_a_message_store(self) -> None:
        verifyObject(IMessageStore, self.store)
        verifyObject(IMessageStore, MemoryStore())

    def test_answers_only_when_the_test_commits(self) -> None:
        message, other = makeMessage(), makeMessage()
        answer, later = self.store.store(message), self.store.store(other)
        self.assertNoResult(answer)
        self.assertEqual(self.store.waiting, [message, other])
        self.store.commit()
        self.assertEqual(self.successResultOf(answer), message.id)
        self.assertNoResult(later)
        self.assertEqual(list(self.store.stored.messages), [message.id])

    def test_a_failed_message_is_closed_and_not_stored(self) -> None:
        content = CountingContent(b"x")
        answer = self.store.store(makeMessage(content=content))
        self.store.fail(OutOfRoom("full"))
        self.failureResultOf(answer, OutOfRoom)
        self.assertEqual((content.closed, self.store.stored.messages), (1, {}))

    def test_a_cancelled_message_is_withdrawn(self) -> None:
        content, other = CountingContent(b"x"), makeMessage()
        self.store.store(other)
        answer = self.store.store(makeMessage(content=content))
        answer.cancel()
        self.failureResultOf(answer, CancelledError)
        self.assertEqual(self.store.waiting, [other])
        self.assertEqual(content.closed, 1)
