"""A mail transaction from the client's side (RFC 5321 §3.3, RFC 2920, RFC 3030)."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailsrv.client.envelope import Envelope, RecipientResult, SendResult, newAddress
from mailsrv.client.source import sourceOf
from mailsrv.client.stream import Counted, Encoding
from mailsrv.interfaces import IClientExtension, IClientTransaction, IContentProducer
from mailsrv.smtp import local
from mailsrv.smtp.address import NULL_PATH, Mailbox, domainKey, parseMailbox
from mailsrv.smtp.command import Command, Parameters
from mailsrv.smtp.reply import Reply
from mailsrv.smtp.transparency import DotStuffer

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


class Connection(Protocol):
    """What a transaction needs of an EsmtpTransport."""

    extensions: Sequence[IClientExtension]
    clock: IReactorTime

    def executeCommand(
        self, command: Command, expectedCodes: Collection[int] = ()
    ) -> Deferred[Reply]: ...

    def sendContent(
        self, producer: IContentProducer, encoding: Encoding, announcement: bytes = b""
    ) -> Deferred[Reply]: ...

    def abort(self) -> None: ...

    def paramsOf(self, extension: IClientExtension) -> str | None: ...

    def isActive(self, keyword: str) -> bool: ...


@implementer(IClientTransaction)
class Transaction:
    """One envelope over one connection: MAIL, RCPT, and DATA or BDAT.

    With PIPELINING all commands go out at once, without it one by one, and none that is in vain.
    BDAT is used for content that DATA would not carry as it is, where the server takes it.
    `isOpen`: whether the server may hold the beginning of a transaction still.
    """

    def __init__(self, connection: Connection, envelope: Envelope) -> None:
        self.sender = envelope.sender
        self.recipients = envelope.recipients
        self.parameters = envelope.parameters
        self.recipientParameters = envelope.recipientParameters
        self.isOpen = False
        self.usesChunks = False
        self._source = envelope.source
        self.size = envelope.source.length
        self.traits = envelope.source.traits
        self._connection = connection
        self._sent: list[Deferred[Reply]] = []
        self._replies: list[Reply | None] = [None] * len(self.recipients)
        self._newAddresses: list[str | None] = [None] * len(self.recipients)

    async def run(self, needsReset: bool) -> SendResult:
        """Carry it out; `needsReset`: the one before it may be open still."""
        self.isOpen = needsReset
        try:
            await self._source.survey(self._connection.clock)
        except CancelledError:
            return self.refused(local.ABORTED)
        except Exception:
            return self.refused(local.UNREADABLE)
        self.traits = self._source.traits
        self.usesChunks = self._wouldUseChunks()
        mail = self._mail()
        if isinstance(mail, Reply):
            return self.refused(mail)
        rcpts: dict[int, Command] = {}
        for index, recipient in enumerate(self.recipients):
            rcpt = self._rcpt(recipient)
            if isinstance(rcpt, Reply):
                self._replies[index] = rcpt
            else:
                rcpts[index] = rcpt
        if rcpts:
            await self._converse([Command("RSET")] if needsReset else [], mail, rcpts)
        return self._result()

    def refused(self, reply: Reply) -> SendResult:
        """The result where `reply` answers for all recipients."""
        self._answerRest(reply)
        return self._result()

    def _result(self) -> SendResult:
        results = zip(self.recipients, self._replies, self._newAddresses, strict=True)
        return SendResult(
            tuple(
                RecipientResult(address, reply or local.ABORTED, newAddress)
                for address, reply, newAddress in results
            )
        )

    def _answerRest(self, reply: Reply) -> None:
        self._replies = [known or reply for known in self._replies]

    # What is to be said

    def _wouldUseChunks(self) -> bool:
        """BDAT takes counted octets; bare newlines are content only as BINARYMIME (RFC 3030)."""
        if self.size is None or not self._connection.isActive("CHUNKING"):
            return False
        if self.traits is None:
            return self._connection.isActive("BINARYMIME")
        return not self.traits.isPlain and (
            not self.traits.hasBareNewlines or self._connection.isActive("BINARYMIME")
        )

    def _mail(self) -> Command | Reply:
        if self.traits is not None and self.traits.hasBareNewlines and not self.usesChunks:
            return local.HAS_BARE_NEWLINE
        mailbox = parseMailbox(self.sender) if self.sender else NULL_PATH
        if mailbox is None:
            return local.BAD_SENDER
        parameters: dict[str, str | None] = {}
        for extension in self._connection.extensions:
            params = self._connection.paramsOf(extension)
            added = extension.getMailParams(self, params)
            if isinstance(added, Reply):
                return added
            if params is not None:
                parameters.update(added)
        return self._command("MAIL", "FROM", mailbox, parameters)

    def _rcpt(self, recipient: str) -> Command | Reply:
        isPostmaster = recipient.lower() == "postmaster"
        mailbox = Mailbox(recipient, "") if isPostmaster else parseMailbox(recipient)
        if mailbox is None:
            return local.BAD_RECIPIENT
        parameters: dict[str, str | None] = {}
        for extension in self._connection.extensions:
            params = self._connection.paramsOf(extension)
            added = extension.getRcptParams(self, recipient, params)
            if isinstance(added, Reply):
                return added
            if params is not None:
                parameters.update(added)
        return self._command("RCPT", "TO", mailbox, parameters)

    def _command(
        self, verb: str, preposition: str, mailbox: Mailbox, parameters: Parameters
    ) -> Command | Reply:
        if not self._connection.isActive("SMTPUTF8"):
            # A domain has an ASCII form, a local part has none.
            if not mailbox.isAscii:
                mailbox = Mailbox(mailbox.localPart, domainKey(mailbox.domain))
            if not mailbox.isAscii:
                return local.UTF8_NOT_OFFERED
            parameters = {name: value and _escaped(value) for name, value in parameters.items()}
        return Command(verb, f"{preposition}:<{mailbox}>".encode(), parameters)

    # Saying it

    async def _converse(
        self, resets: list[Command], mail: Command, rcpts: dict[int, Command]
    ) -> None:
        data = [] if self.usesChunks else [Command("DATA")]
        isPipelined = self._connection.isActive("PIPELINING")
        if isPipelined:
            group = [*resets, mail, *rcpts.values(), *data]
            self._sent = [self._connection.executeCommand(command) for command in group]
        self.isOpen = True
        for command in resets:
            if _refusal(await self._reply(command), 2) is not None:
                # It says nothing of this message, and nobody knows what state the server is in.
                self._connection.abort()
        fault = _refusal(await self._reply(mail), 2)
        accepted = []
        for index, rcpt in rcpts.items():
            if fault is None or isPipelined:
                answer = await self._reply(rcpt)
                self._newAddresses[index] = newAddress(answer)
                self._replies[index] = fault or _refusal(answer, 2)
                if self._replies[index] is None:
                    accepted.append(index)
        if fault is not None and not isPipelined:
            self._answerRest(fault)
        if self.usesChunks:
            if accepted:
                self._answerRest(await self._sendChunk())
        elif accepted or isPipelined:
            self._answerRest(await self._sendData(data[0], bool(accepted)))

    async def _reply(self, command: Command) -> Reply:
        """The reply to `command`, which has gone out already or goes out now."""
        return await (self._sent.pop(0) if self._sent else self._connection.executeCommand(command))

    async def _sendData(self, command: Command, isWanted: bool) -> Reply:
        fault = _refusal(await self._reply(command), 3)
        if fault is not None:
            return fault
        if not isWanted:
            # 354 though nobody is to receive it: the content is the dot alone (RFC 2920 §3.1).
            nothing = sourceOf(b"").producer()
            return await self._connection.sendContent(nothing, DotStuffer())
        return self._ended(
            await self._connection.sendContent(self._source.producer(), DotStuffer())
        )

    async def _sendChunk(self) -> Reply:
        size = self.size or 0
        announcement = Command("BDAT", b"%d LAST" % size).octets
        return self._ended(
            await self._connection.sendContent(self._source.producer(), Counted(size), announcement)
        )

    def _ended(self, reply: Reply) -> Reply:
        """The reply to the end of the content; only a success surely ends the transaction."""
        self.isOpen = reply.code // 100 != 2
        return _refusal(reply, 2) or reply


def _escaped(value: str) -> str:
    """A value in ASCII: of all parameters only ORCPT may hold anything else (RFC 6533 §3)."""
    return _NOT_ASCII.sub(lambda found: f"\\x{{{ord(found[0]):X}}}", value)


def _refusal(reply: Reply, success: int) -> Reply | None:
    """None for a reply of the class that goes on, else the reply that says why not."""
    if reply.code // 100 == success:
        return None
    return local.outOfPlace(reply) if reply.isPositive else reply
