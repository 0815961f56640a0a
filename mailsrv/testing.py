"""Public fakes and contracts: for the tests of programs that embed or extend the server."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from ulid import ULID
from zope.interface import implementer

from mailsrv.interfaces import IMessageStore
from mailsrv.smtp.errors import CannotStore, Unavailable
from mailsrv.smtp.message import BytesContent, Forward, Message, Recipient, Summary
from mailsrv.store.dialect import Dialect
from mailsrv.store.memory import MemoryStore
from mailsrv.store.queries import Row, Txn, parseTime
from mailsrv.store.queries.messages import contentTxn, messageTxn
from mailsrv.store.queries.queue import queueTxn
from mailsrv.store.queries.recipients import recipientsTxn

MIB = 1 << 20


def makeMessage(octets: bytes = b"Subject: hello\r\n\r\nHi.\r\n", **changes: Any) -> Message:
    """A message to one recipient with an id of its own; `changes` are fields of Message."""
    message = Message(
        id=str(ULID()),
        receivedAt=datetime.now(UTC),
        sender="alice@example.org",
        recipients=(Recipient("bob@example.com"),),
        content=BytesContent(octets),
    )
    return replace(message, **changes)


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


class CountingContent(BytesContent):
    """Counts how often it is closed."""

    def __init__(self, octets: bytes) -> None:
        super().__init__(octets)
        self.closed = 0

    def close(self) -> None:
        self.closed += 1


class GatedContent(CountingContent):
    """Is read by a database thread only once `gate` is set; closed meanwhile, it complains."""

    def __init__(self, octets: bytes) -> None:
        super().__init__(octets)
        self.gate = threading.Event()

    def head(self, limit: int) -> bytes:
        assert self.gate.wait(20), "nobody opened the gate"
        assert not self.closed, "closed while it was read"
        return super().head(limit)


class BrokenContent(CountingContent):
    """Cannot be read beyond its first `readable` octets."""

    def __init__(self, octets: bytes, readable: int) -> None:
        super().__init__(octets)
        self.readable = readable

    def head(self, limit: int) -> bytes:
        return b"".join(self.pieces(limit))[:limit] if self.size <= limit else self._read(0, limit)

    def pieces(self, size: int, offset: int = 0) -> Iterator[bytes]:
        for start in range(offset, self.size, size):
            yield self._read(start, size)

    def _read(self, start: int, size: int) -> bytes:
        if min(start + size, self.size) > self.readable:
            raise OSError("the spool cannot be read")
        return self.octets[start : start + size]


class Store(Protocol):
    """What a StoreContract holds: an IMessageStore that can be closed."""

    def store(self, message: Message) -> Deferred[str]:
        """As IMessageStore."""

    def close(self) -> Deferred[None]:
        """Fires when all that was under way is answered."""


# What no database may trip over, in any field; the last is no text at all.
STRANGE_TEXTS = (
    "",
    "a\0b\0",
    "'; DROP TABLE x; -- \"`",
    "back\\slash\\' \\0 \\n\\",
    "100% %s %(x)s ? :name {0}",
    "𝄞 😀 日本語",
    "É é e\u0301 İ ı ß ẞ \u00ad\u200b\ufeff\uffff",
    " blanks \t\r\n ",
    "lone \udcff surrogate",
)


class StoreContract:
    """What every store must do. Each method `check…` is a test: a coroutine that raises nothing.

    A subclass says how a store is made and how to read what it holds; `stores` are those made.
    Await the checks in a running reactor, or, where `isInstant`, with a test case's
    `successResultOf`. An instant store answers within `store` and so cannot be interrupted.
    """

    isInstant = False

    def makeStore(self, timeout: float = 30.0) -> Store:
        """A new store over the same, empty tables; `timeout` is how long it may try."""
        raise NotImplementedError

    def read(self, id: str) -> Message | None:
        """The message as it rests in the tables, or None; blocking."""
        raise NotImplementedError

    @classmethod
    def checks(cls) -> list[str]:
        """The names of all checks."""
        return [name for name in dir(cls) if name.startswith("check") and name != "checks"]

    async def keep(self, message: Message) -> Message:
        """Store `message`; what was kept of it."""
        store = self.makeStore()
        assert await store.store(message) == message.id
        await store.close()
        kept = self.read(message.id)
        assert kept is not None
        return kept

    async def checkKeepsExactOctets(self) -> None:
        for octets in (b"", b"x", bytes(range(256)) * 64, b"\r\n.\r\n\n\r'\\\"%s?\0"):
            kept = await self.keep(makeMessage(octets))
            assert kept.content.head(MIB) == octets
            assert kept.content.size == len(octets)
            assert kept.content.sha256 == hashlib.sha256(octets).hexdigest()

    async def checkKeepsLargeContentInItsOrder(self) -> None:
        pattern = b"".join(b"%07d\n" % line for line in range(7 * MIB // 16))
        for size in (MIB - 1, MIB, MIB + 1, 2 * MIB, 3 * MIB + MIB // 2):
            kept = await self.keep(makeMessage(pattern[:size]))
            assert b"".join(kept.content.pieces(MIB)) == pattern[:size], size

    async def checkKeepsTheEnvelope(self) -> None:
        given = makeMessage(
            receivedAt=datetime(2026, 2, 28, 23, 59, 59, 7, UTC),
            sender="",
            recipients=(
                Recipient("Zoë@example.com", 7, "NOTIFY=NEVER"),
                Recipient("a@example.com", None),
                Recipient("a@example.com", 8),
            ),
            forwards=(
                Forward("a@elsewhere.example", "a@example.com", "ORCPT=rfc822;a@example.com"),
                Forward("b@elsewhere.example", "a@example.com"),
            ),
            summary=Summary("s", datetime(1999, 1, 1, tzinfo=UTC), "text\r\n", "<1@x>"),
            parameters="SIZE=5 BODY=8BITMIME",
            helo="[192.0.2.1]",
            peer="2001:db8::1",
            protocol="ESMTPSA",
            trace=b"Return-Path: <>\r\nReceived: from x\r\n",
        )
        self.assertSame(await self.keep(given), given)
        bare = makeMessage(recipients=(), summary=Summary())
        self.assertSame(await self.keep(bare), bare)

    async def checkKeepsAnyTextInAnyField(self) -> None:
        for text in STRANGE_TEXTS:
            kept = await self.keep(self._messageOf(text))
            # Memory may hold what is no text, a table cannot.
            expected = text if kept.sender == text else text.replace("\udcff", "\ufffd")
            self.assertSame(kept, self._messageOf(expected, kept))

    @staticmethod
    def _messageOf(text: str, like: Message | None = None) -> Message:
        message = makeMessage(
            sender=text,
            recipients=(Recipient(text, 1, text),),
            forwards=(Forward(text, text, text),),
            summary=Summary(text, None, text, text),
            parameters=text,
            helo=text,
            peer=text,
            protocol=text,
            trace=text.replace("\udcff", "\ufffd").encode(),
        )
        return replace(message, id=like.id, receivedAt=like.receivedAt) if like else message

    async def checkKeepsExtremesThatFitNoColumn(self) -> None:
        huge = "\u00fc😀" * MIB
        for date in (datetime.min, datetime.max):
            summary = Summary(huge, date.replace(tzinfo=UTC), huge, huge[:5000])
            kept = (await self.keep(makeMessage(summary=summary))).summary
            assert kept.date == summary.date
            assert kept.subject is not None
            assert kept.subject[:1000] == huge[:1000]
            assert kept.body is not None
            assert kept.body[:65_536] == huge[:65_536]

    async def checkKeepsApartWhatDiffersByASingleCharacter(self) -> None:
        senders = ["e@x", "E@x", "é@x", "e\u0301@x", "e@x ", "ß@x", "ss@x"]
        messages = [makeMessage(sender=sender) for sender in senders]
        store = self.makeStore()
        await gatherResults([store.store(message) for message in messages])
        await store.close()
        assert [self._read(message).sender for message in messages] == senders

    async def checkClosesEveryContentOnce(self) -> None:
        contents = [CountingContent(b"x" * size) for size in (0, 100, 2 * MIB)]
        contents.append(BrokenContent(b"x" * 100, 50))
        store = self.makeStore()
        for content in contents:
            answer = store.store(makeMessage(content=content))
            await answer.addErrback(lambda failure: failure.trap(Exception) and "")
        await store.close()
        assert [content.closed for content in contents] == [1] * len(contents)

    async def checkRefusesAloneWhatCannotBeRead(self) -> None:
        store = self.makeStore()
        broken = [
            makeMessage(content=BrokenContent(b"x" * 3 * MIB, 2 * MIB + 1)),
            makeMessage(content=BrokenContent(b"x" * 100, 50)),
        ]
        sound = [makeMessage(b"%d" % number) for number in range(50)]
        batch = [*sound[:25], *broken, *sound[25:]]
        answers = [store.store(message) for message in batch]
        for message, answer in zip(batch, answers, strict=True):
            if message in broken:
                await self.assertFails(answer, CannotStore)
            else:
                assert await answer == message.id
        await store.close()
        assert [self.read(message.id) for message in broken] == [None, None]
        assert [self._read(m).content.head(9) for m in sound] == [b"%d" % n for n in range(50)]

    async def checkLeavesNothingOfWhatIsWithdrawn(self) -> None:
        if self.isInstant:
            return
        store = self.makeStore()
        first = GatedContent(b"first")
        second = GatedContent(b"second")
        begun = store.store(makeMessage(content=first))
        messages = [makeMessage(content=second), *(makeMessage() for _ in range(3))]
        answers = [store.store(message) for message in messages]
        answers[1].cancel()  # it waits for the first to be committed
        first.gate.set()
        await begun
        answers[2].cancel()  # it is being written
        second.gate.set()
        for index, answer in enumerate(answers):
            if index in (1, 2):
                await self.assertFails(answer, CancelledError)
                assert self.read(messages[index].id) is None
            else:
                assert await answer == messages[index].id
                self._read(messages[index])
        await store.close()
        assert (first.closed, second.closed) == (1, 1)

    async def checkLeavesNothingOfWhatTookTooLong(self) -> None:
        if self.isInstant:
            return
        store = self.makeStore(timeout=0.2)
        content = GatedContent(b"x")
        late, waiting = makeMessage(content=content), makeMessage()
        answers = [store.store(late), store.store(waiting)]
        for answer in answers:
            await self.assertFails(answer, Unavailable)
        content.gate.set()
        await store.close()
        assert self.read(late.id) is None
        assert self.read(waiting.id) is None
        assert content.closed == 1

    def _read(self, message: Message) -> Message:
        kept = self.read(message.id)
        assert kept is not None, f"{message.id} is not there"
        return kept

    @staticmethod
    def assertSame(kept: Message, given: Message) -> None:
        """All fields are equal, and the octets."""
        assert replace(kept, content=given.content) == given
        assert kept.content.head(MIB) == given.content.head(MIB)

    @staticmethod
    async def assertFails(answer: Deferred[str], error: type[Exception]) -> None:
        """`answer` fails with `error`."""
        try:
            result = await answer
        except error:
            return
        raise AssertionError(f"stored, in place of {error.__name__}: {result}")


def readMessageTxn(txn: Txn, id: str) -> Message | None:
    """A message out of the tables, as it was given to the store."""
    row = messageTxn(txn, id)
    if row is None:
        return None
    date = None if row["date"] is None else parseTime(row["date"])
    return Message(
        id=row["id"],
        receivedAt=parseTime(row["received_at"]),
        sender=row["sender"],
        recipients=tuple(_recipient(recipient) for recipient in recipientsTxn(txn, id)),
        content=BytesContent(b"".join(contentTxn(txn, id))),
        forwards=tuple(_forward(forward) for forward in queueTxn(txn, id)),
        summary=Summary(row["subject"], date, row["body"], row["msg_id"]),
        parameters=row["parameters"],
        helo=row["helo"],
        peer=row["peer"],
        protocol=row["protocol"],
        trace=row["trace"].encode(),
    )


def _recipient(row: Row) -> Recipient:
    return Recipient(row["address"], row["user_id"], row["parameters"])


def _forward(row: Row) -> Forward:
    return Forward(row["address"], row["recipient"], row["parameters"])


def readMessage(dialect: Dialect, id: str) -> Message | None:
    """The same over a connection of its own; blocking."""
    connection = dialect.connect()
    try:
        return readMessageTxn(connection.cursor(), id)
    finally:
        connection.close()
