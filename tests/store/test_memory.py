"""The memory store, and the store that is held."""

from __future__ import annotations

from dataclasses import replace

import pytest
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from mailsrv.interfaces import IMessageStore
from mailsrv.smtp.errors import OutOfRoom
from mailsrv.smtp.message import BytesContent, Message
from mailsrv.store.memory import MemoryStore
from mailsrv.testing import CountingContent, HeldStore, Store, StoreContract, makeMessage

# What an instant store cannot show, and what a store of half the octets still does.
INTERRUPTING = {
    "checkLeavesNothingOfWhatIsWithdrawn",
    "checkLeavesNothingOfWhatTookTooLong",
    "checkClosesEveryContentOnce",
    "checkKeepsApartWhatDiffersByASingleCharacter",
    "checkKeepsExtremesThatFitNoColumn",
}


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


class LossyStore(MemoryStore):
    """Answers, and keeps half."""

    def store(self, message: Message) -> Deferred[str]:
        half = BytesContent(message.content.head(message.content.size // 2))
        if message.sender:
            self.messages[message.id] = replace(message, content=half)
        message.content.close()
        return succeed(message.id)


@pytest.mark.parametrize("check", sorted({*MemoryContract.checks()} - INTERRUPTING))
def test_a_store_that_loses_something_does_not_keep_the_contract(check: str) -> None:
    contract = MemoryContract()
    contract.memory = LossyStore()
    result = Deferred.fromCoroutine(getattr(contract, check)())
    SynchronousTestCase().failureResultOf(result, AssertionError)


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
