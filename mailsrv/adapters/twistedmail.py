"""Programs written for twisted.mail: their IMessageDelivery behind our server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from twisted.internet.defer import (
    CancelledError,
    Deferred,
    DeferredList,
    TimeoutError,
    maybeDeferred,
)
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.interfaces import (
    Answer,
    IDirectory,
    IMessageStore,
    IPolicy,
    ISession,
    ITransaction,
    MaybeDeferredAnswer,
    Resolution,
)
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox
from mailsrv.smtp.errors import CannotStore, Unavailable
from mailsrv.smtp.message import Content, Message
from mailsrv.smtp.reply import Reply, reply

# twisted.mail.smtp installs a reactor where it is imported: only functions do so here.
if TYPE_CHECKING:
    from twisted.mail.smtp import Address, User

BAD_ADDRESS = reply(553, "5.1.3", "This address cannot be taken here")

_PIECE = 65_536  # octets that are handed over in one turn of the reactor

_log = Logger()


@dataclass(slots=True)
class _Delivery:
    """What the program has said in one transaction: who receives, and by which IMessage."""

    delivery: Any  # IMessageDelivery
    helo: tuple[bytes, bytes]
    origin: Any  # Address, or what validateFrom made of it
    messages: dict[str, tuple[User, Callable[[], Any]]] = field(default_factory=dict)


@implementer(IPolicy, IDirectory, IMessageStore)
class TwistedMailDelivery:
    """An IMessageDelivery of twisted.mail as policy, directory and store of our server.

    Give it as all three, as the last policy::

        delivery = TwistedMailDelivery(MyDelivery(), reactor)
        SmtpServerFactory(delivery, delivery, reactor, policies=[delivery], …)

    `delivery`: an IMessageDelivery, or an IMessageDeliveryFactory that is asked at each MAIL.
    `timeout`: seconds that `eomReceived` may take.

    It is called as twisted.mail calls it: validateFrom at MAIL, validateTo at RCPT; after the end
    of the data, for each recipient, the callable, lineReceived with the Received header and with
    each line without its CRLF, eomReceived. What differs: `user.protocol` is None; lineReceived is
    called only when the whole message is there; VRFY is answered 252.

    SMTPBadSender, SMTPBadRcpt and SMTPServerError refuse with their own code at MAIL and RCPT. Any
    other failure, and every one after the data, is ours and temporary: 451, or 421 when the time is
    over. Where one recipient's message is taken and another's is not, it is 451 too, and the first
    gets the message again.
    """

    def __init__(self, delivery: Any, clock: IReactorTime, timeout: float = 300.0) -> None:
        self._delivery = delivery
        self._clock = clock
        self._timeout = timeout
        self._open: WeakKeyDictionary[ITransaction, _Delivery] = WeakKeyDictionary()
        self._ended: WeakKeyDictionary[Content, _Delivery] = WeakKeyDictionary()

    # As a policy

    def atConnect(self, session: ISession) -> MaybeDeferredAnswer:
        return None

    def atMail(self, transaction: ITransaction) -> MaybeDeferredAnswer:
        """Ask validateFrom."""
        from twisted.mail.smtp import IMessageDeliveryFactory

        session = transaction.session
        delivery = self._delivery
        if IMessageDeliveryFactory.providedBy(delivery):
            delivery = delivery.getMessageDelivery()
        helo = (session.helo.encode(), session.peer.encode())
        address = _addressOf(transaction.reversePath)
        if address is None:
            return BAD_ADDRESS
        asked = maybeDeferred(delivery.validateFrom, helo, address)

        def validated(origin: Any) -> Answer:
            self._open[transaction] = _Delivery(delivery, helo, origin)
            return None

        return asked.addCallback(validated).addErrback(_refusal, transaction.session.hostname)

    def atRcpt(self, transaction: ITransaction, forwardPath: Mailbox) -> MaybeDeferredAnswer:
        """Ask validateTo."""
        from twisted.mail.smtp import User

        this = self._open[transaction]
        if _addressOf(forwardPath) is None:
            return BAD_ADDRESS
        user = User(str(forwardPath).encode(), this.helo, None, this.origin)
        asked = maybeDeferred(this.delivery.validateTo, user)

        def validated(message: Callable[[], Any]) -> Answer:
            this.messages.setdefault(forwardPath.key, (user, message))
            return None

        return asked.addCallback(validated).addErrback(_refusal, transaction.session.hostname)

    def atContent(self, transaction: ITransaction, content: Content) -> MaybeDeferredAnswer:
        """Refuses nothing; from here on the content stands for the transaction."""
        self._ended[content] = self._open.pop(transaction)
        return None

    # As a directory

    def resolve(self, forwardPath: Mailbox) -> Resolution:
        """Accepted: validateTo has been asked."""
        return Resolution(r.RECIPIENT_OK)

    def verify(self, string: str) -> Reply:
        """252: nobody can be asked."""
        return r.CANNOT_VERIFY

    expand = verify

    # As a store

    def store(self, message: Message) -> Deferred[str]:
        """Hand the message to the program; fires when every eomReceived has."""
        return Deferred.fromCoroutine(self._store(message))

    async def _store(self, message: Message) -> str:
        this = self._ended.pop(message.content)
        receivers: list[Any] = []
        try:
            await self._feed(this, message.content, receivers)
        except CancelledError:
            _forget(receivers)
            raise
        except Exception as error:
            _forget(receivers)
            _log.failure("the program did not take {id}", id=message.id)
            raise CannotStore(str(error)) from error
        finally:
            message.content.close()
        await self._end(message.id, receivers)
        return message.id

    async def _feed(self, this: _Delivery, content: Content, receivers: list[Any]) -> None:
        """Make an IMessage for each recipient, added to `receivers`, and give it every line."""
        for user, make in this.messages.values():
            receiver = make()
            receivers.append(receiver)
            header = this.delivery.receivedHeader(this.helo, this.origin, [user])
            if header:
                receiver.lineReceived(header)
        isFirst = True
        for lines in _lines(content):
            for line in lines:
                # A message without header: what follows our Received line is body.
                if isFirst and line and b":" not in line:
                    _giveLine(receivers, b"")
                isFirst = False
                _giveLine(receivers, line)
            await deferLater(self._clock, 0)

    async def _end(self, id: str, receivers: list[Any]) -> None:
        ends = [maybeDeferred(receiver.eomReceived) for receiver in receivers]
        # Apart from what the program waits for: who goes away does not stop it half way.
        ended: Deferred[list[tuple[bool, Any]]] = Deferred()
        DeferredList(ends, consumeErrors=True).addCallback(ended.callback)
        try:
            results = await ended.addTimeout(self._timeout, self._clock)
        except TimeoutError:
            raise Unavailable(f"the program has not taken {id} in time") from None
        failures = [failure for isDone, failure in results if not isDone]
        for failure in failures:
            _log.failure("the program did not take {id}", failure, id=id)
        if failures:
            raise CannotStore(f"{len(failures)} of {len(receivers)} recipients failed")


def _giveLine(receivers: list[Any], line: bytes) -> None:
    for receiver in receivers:
        receiver.lineReceived(line)


def _forget(receivers: list[Any]) -> None:
    """The message will not come: each IMessage throws away what it has."""
    for receiver in receivers:
        try:
            receiver.connectionLost()
        except Exception:
            _log.failure("connectionLost of an IMessage failed")


def _lines(content: Content) -> Iterator[list[bytes]]:
    """The lines of a message without their CRLF, as many at a time as are in some 64 KiB."""
    held: list[bytes] = []
    end = b""
    for each in content.pieces(_PIECE):
        piece = end + each
        # A CR at the end may be the first half of a CRLF.
        end = b"\r" if piece.endswith(b"\r") else b""
        first, *others = piece.removesuffix(end).split(b"\r\n")
        held.append(first)
        if others:
            yield [b"".join(held), *others[:-1]]
            held = [others[-1]]
    last = b"".join([*held, end])
    if last:
        yield [last]


def _addressOf(mailbox: Mailbox) -> Address | None:
    """As twisted.mail has it; None where it cannot, outside ASCII for one."""
    from twisted.mail.smtp import Address, AddressError

    try:
        return Address(str(mailbox).encode("ascii"))
    except (AddressError, UnicodeEncodeError):
        return None


def _refusal(failure: Failure, hostname: str) -> Answer:
    """The program's own refusal; whatever else failed is raised on, and 451."""
    from twisted.mail.smtp import SMTPServerError

    error = failure.value
    if not isinstance(error, SMTPServerError) or not 400 <= error.code < 600:
        return failure  # type: ignore[return-value]  # as errbacks do
    text = error.resp.decode("utf-8", "replace") if isinstance(error.resp, bytes) else error.resp
    name = f"{hostname} " if error.code == 421 else ""
    return reply(error.code, f"{error.code // 100}.0.0", f"{name}{text}")
