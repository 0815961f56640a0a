"""A client's connection to a server (RFC 5321 §3.1, §3.2, §3.8)."""

from __future__ import annotations

import re
from collections.abc import Collection, Coroutine, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint
from twisted.internet.protocol import Factory
from zope.interface import implementer

from mailsrv.client.envelope import Envelope, SendResult
from mailsrv.client.stream import Encoding
from mailsrv.client.timeouts import Timeouts
from mailsrv.client.transaction import Transaction
from mailsrv.client.writer import EsmtpCommandWriter
from mailsrv.interfaces import (
    CommandSentException,
    IClientExtension,
    IContentProducer,
    IEsmtpCommandWriter,
    IOctetBuffer,
    UnexpectedReply,
)
from mailsrv.smtp import local
from mailsrv.smtp.address import isDomain
from mailsrv.smtp.command import Command
from mailsrv.smtp.reply import Reply

T = TypeVar("T")

_KEYWORD_LINE = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*+)(?: +(.*))?")


@implementer(IEsmtpCommandWriter)
class EsmtpTransport:
    """A connection to a server, over which messages are sent one after another.

    `endpoint`: any Twisted client endpoint. `helo`: our own name, a domain or address literal.
    `extensions`: client halves, asked in this order; each is active only where it is given here
    and the server offers it. `hostname`: the name the server's certificate must be for.

    connect(), send() as often as one likes, quit(). It does not reconnect: a transport is one
    connection, and once that has ended it answers every recipient with what ended it.
    """

    def __init__(
        self,
        endpoint: IStreamClientEndpoint,
        reactor: IReactorTime,
        *,
        helo: str,
        extensions: Sequence[IClientExtension] = (),
        hostname: str = "",
        timeouts: Timeouts | None = None,
    ) -> None:
        if not isDomain(helo):
            raise ValueError(f"not a domain or address literal: {helo!r}")
        self.hostname = hostname
        self.extensions = extensions
        self.clock = reactor
        self.offered: Mapping[str, str] = {}
        self.greeting: Reply | None = None
        self._endpoint = endpoint
        self._helo = helo
        self._timeouts = timeouts or Timeouts()
        self._writer: EsmtpCommandWriter | None = None
        self._lock = DeferredLock()
        self._needsReset = False

    # For the caller

    @property
    def isConnected(self) -> bool:
        """Whether another message can be sent."""
        return self._writer is not None and self._writer.ended is None

    @property
    def isSecure(self) -> bool:
        """Whether TLS is on."""
        return self._writer is not None and self._writer.isSecure

    @property
    def isVerified(self) -> bool:
        """Whether, too, the certificate is the host's."""
        return self._writer is not None and self._writer.isVerified

    @property
    def ends(self) -> tuple[IAddress, IAddress]:
        """The addresses of both ends of the connection: ours, and the server's."""
        return self._connected().ends

    def connect(self) -> Deferred[None]:
        """Connect, await the greeting, say EHLO (HELO where that is answered 5yz), and give each
        extension its turn.

        Fails with UnexpectedReply; the connection is closed then.
        """
        return _run(self._connect())

    def send(self, envelope: Envelope) -> Deferred[SendResult]:
        """Send a message; fires with a Reply for each recipient, and does not fail.

        A message waits for the one before it. Cancelled while it waits it is not sent; under way
        it ends the connection. The result comes all the same.
        """
        return _run(self._send(envelope))

    def quit(self) -> Deferred[None]:
        """Say QUIT behind the last message, and fire once the connection is closed, whatever the
        answer."""
        return _run(self._quit())

    def abort(self) -> None:
        """End the connection at once; what is under way is answered 451."""
        if self._writer is not None:
            self._writer.end(local.ABORTED)

    # For extensions and transactions

    def getBuffer(self) -> IOctetBuffer:
        return self._connected().getBuffer()

    def executeCommand(
        self, command: Command, expectedCodes: Collection[int] = ()
    ) -> Deferred[Reply]:
        writer = self._connected()
        try:
            for extension in self.extensions:
                if self.paramsOf(extension) is not None:
                    extension.atCommand(writer, command, expectedCodes)
        except CommandSentException as sent:
            return sent.reply
        return writer.executeCommand(command, expectedCodes)

    def sendContent(
        self, producer: IContentProducer, encoding: Encoding, announcement: bytes = b""
    ) -> Deferred[Reply]:
        """Send content; see EsmtpCommandWriter."""
        return self._connected().sendContent(producer, encoding, announcement)

    def paramsOf(self, extension: IClientExtension) -> str | None:
        """The parameters the server offers the extension's keyword with; None: not offered."""
        return self.offered.get(extension.getKeyword())

    def isActive(self, keyword: str) -> bool:
        """Whether the server offers `keyword` and an extension was given for it."""
        return self._writer is not None and keyword in self._writer.keywords

    def _connected(self) -> EsmtpCommandWriter:
        if self._writer is None:
            raise UnexpectedReply(local.NOT_CONNECTED)
        return self._writer

    # Setting up

    async def _connect(self) -> None:
        writer = EsmtpCommandWriter(self.clock, self.hostname, self._timeouts)
        connecting = self._endpoint.connect(_OneProtocol(writer))
        connecting.addTimeout(self._timeouts.connect, self.clock)
        try:
            await connecting
        except Exception:
            raise UnexpectedReply(local.CANNOT_CONNECT) from None
        self._writer = writer
        try:
            self.greeting = _expect(await writer.greeting, 220)
            await self._introduce()
            if writer.ended is not None:
                raise UnexpectedReply(writer.ended)
        except BaseException:
            self._leave()
            raise

    async def _introduce(self) -> None:
        """EHLO, and the turns of the extensions; once more where one of them turned TLS on."""
        isAgain = True
        while isAgain:
            await self._ehlo()
            isAgain = await self._giveTurns()

    async def _ehlo(self) -> None:
        """What the server offers, as of now: what it said before is forgotten (RFC 3207 §4.2)."""
        self.offered = {}
        writer = self._connected()
        writer.keywords = {}
        helo = self._helo.encode("ascii")
        answer = await self.executeCommand(Command("EHLO", helo))
        if answer.code // 100 == 5:
            _expect(await self.executeCommand(Command("HELO", helo)), 250)
            return
        self.offered = _keywords(_expect(answer, 250))
        spoken = {extension.getKeyword() for extension in self.extensions}
        writer.keywords = {word: self.offered[word] for word in spoken & self.offered.keys()}

    async def _giveTurns(self) -> bool:
        wasSecure = self.isSecure
        for extension in self.extensions:
            answer = extension.afterEhlo(self, self.paramsOf(extension))
            if isinstance(answer, Deferred):
                answer = await answer
            if answer is not None:
                raise UnexpectedReply(answer)
            if self.isSecure != wasSecure:
                return True
        return False

    # Messages

    async def _send(self, envelope: Envelope) -> SendResult:
        transaction = Transaction(self, envelope)
        if self._writer is None:
            return transaction.refused(local.NOT_CONNECTED)
        try:
            await self._lock.acquire()
        except CancelledError:
            return transaction.refused(local.ABORTED)
        try:
            result = await transaction.run(self._needsReset)
            self._needsReset = transaction.isOpen
            return result
        finally:
            self._lock.release()

    async def _quit(self) -> None:
        if self._writer is None:
            return
        await self._lock.run(self._goodbye, self._writer)

    def _goodbye(self, writer: EsmtpCommandWriter) -> Deferred[None]:
        def close(_: Reply) -> Deferred[None] | None:
            writer.close()
            return None if writer.lost.called else writer.lost

        return writer.executeCommand(Command("QUIT")).addCallback(close)

    def _leave(self) -> None:
        """Say QUIT to a server that is of no use, and do not wait for what it says."""
        writer = self._writer
        if writer is not None and writer.ended is None:
            writer.executeCommand(Command("QUIT")).addBoth(lambda _: writer.close())


class _OneProtocol(Factory):
    """The factory of one connection."""

    noisy = False

    def __init__(self, writer: EsmtpCommandWriter) -> None:
        self._writer = writer

    def buildProtocol(self, addr: IAddress | None) -> EsmtpCommandWriter:
        return self._writer


def _run(coroutine: Coroutine[Deferred[Any], Any, T]) -> Deferred[T]:
    return Deferred.fromCoroutine(coroutine)


def _expect(answer: Reply, code: int) -> Reply:
    if answer.code == code:
        return answer
    raise UnexpectedReply(local.outOfPlace(answer) if answer.isPositive else answer)


def _keywords(answer: Reply) -> Mapping[str, str]:
    """The keywords of an EHLO reply, in upper case, with their parameters (§4.1.1.1)."""
    matches = (_KEYWORD_LINE.fullmatch(line) for line in answer.lines[1:])
    return {match[1].upper(): (match[2] or "").strip() for match in matches if match}
