"""What every store must do, as tests for the store of your own."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.threads import deferToThread

from mailsrv.smtp.errors import CannotStore, Unavailable
from mailsrv.smtp.message import Forward, Message, Recipient, Summary, lineFeeds
from mailsrv.testing.messages import BrokenContent, CountingContent, GatedContent, makeMessage

MIB = 1 << 20


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

    async def checkKeepsATextThatEndsTheContent(self) -> None:
        texts = [*STRANGE_TEXTS, "\n", "\r", "a\rb\r\nc\n", "x" * 65_536, "é\n" * 40_000]
        for text in texts:
            octets = text.replace("\n", "\r\n").encode("utf-8", "surrogatepass")
            for content in (octets, b"Subject: x\r\n\r\n" + octets, octets + b"\r\n", b"?"):
                kept = await self.keep(makeMessage(content, summary=Summary(body=text)))
                assert kept.summary.body is not None
                # Memory may hold what is no text, a table cannot.
                possible = (text, text.replace("\udcff", "\ufffd"))
                assert kept.summary.body[:65_536] in [each[:65_536] for each in possible]
                assert b"".join(kept.content.pieces(MIB)) == content

    async def checkKeepsAPlainTextWithLineFeeds(self) -> None:
        for ending in (b"", b"a\r\nb", b"a\rb\r\nc\n\r\r\nd\r", "é\r\n😀\r\n".encode()):
            for content in (ending, b"Subject: x\r\n\r\n" + ending, b"?" + ending + b"\r\n"):
                summary = Summary.ofPlainText("x", None, None, ending)
                kept = await self.keep(makeMessage(content, summary=summary))
                assert kept.summary.body == lineFeeds(ending.decode())
                assert kept.content.head(MIB) == content

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
        assert await deferToThread(first.wanted.wait, 20), "nobody reads what is to be stored"
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
