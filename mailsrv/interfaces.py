"""The contract page: every interface between the rooms, and towards programs that embed us.

A method that returns "X or a Deferred of X" returns X itself wherever it knows the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from mailsrv.smtp.address import Mailbox
from mailsrv.smtp.command import Command, Parameters
from mailsrv.smtp.message import Content, Forward, Message, Recipient, Summary
from mailsrv.smtp.reply import Reply

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator

Answer = Reply | None
# Any, since Deferred is invariant: what fires is a Reply, respectively an Answer.
MaybeDeferredReply = Reply | Deferred[Any]
MaybeDeferredAnswer = Answer | Deferred[Any]


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a forward-path comes to.

    `reply`: what RCPT is answered (250, 251, 550, 551, 451 …). Where it is positive,
    `mailboxes` are the users' ids that hold the mail and `forwards` the addresses elsewhere it is
    queued for; both empty: stored with no mailbox (a sink, postmaster).
    """

    reply: Reply
    mailboxes: tuple[int, ...] = ()
    forwards: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """How much a session may ask for; `maxLine` 0 lifts the limit on lines of content."""

    maxSize: int = 52_428_800
    maxRecipients: int = 100
    maxLine: int = 1000
    acceptBareNewlines: bool = False
    timeout: float = 600.0
    maxErrors: int = 20
    maxRefusedRecipients: int = 1000


class IMessageStore(Interface):
    """Where mail rests."""

    def store(message: Message) -> Deferred[str]:
        """Commit the message, its recipients and its queue rows in one transaction.

        Owns `message.content` from here on and closes it. Fires with the message's id after the
        COMMIT, never before. Fails with one of `mailsrv.smtp.errors`: Unavailable, OutOfRoom,
        CannotStore; then the message is not stored, and will not be. (The one exception: the
        connection to the database was lost in COMMIT and did not come back in time.)
        Cancelling withdraws the message if its COMMIT has not begun.
        """


class IDirectory(Interface):
    """Who may receive."""

    def resolve(forwardPath: Mailbox) -> Resolution | Deferred[Resolution]:
        """What the forward-path comes to; fails with Unavailable."""

    def verify(string: str) -> MaybeDeferredReply:
        """The reply to VRFY (§3.5): 250, 550, 553; fails with Unavailable."""

    def expand(string: str) -> MaybeDeferredReply:
        """The reply to EXPN (§3.5): 250 with a line for each member, 550; likewise."""


class ITransaction(Interface):
    """A mail transaction under way (§3.3), as extensions and policies see it."""

    session = Attribute("The ISession it belongs to.")
    reversePath = Attribute("Mailbox: who sends.")
    parameters = Attribute("Parameters of MAIL, as given.")
    recipients = Attribute("list of Recipient: accepted so far.")
    size = Attribute("int: octets of content so far.")
    usesChunks = Attribute("bool: whether BDAT has been used.")
    needsChunks = Attribute("bool: an extension may set it: the content must come by BDAT.")


class ISession(Interface):
    """An SMTP session, as extensions and policies see it: no transport, no reactor."""

    hostname = Attribute("str: our own name.")
    peer = Attribute("str: the client's IP address; '' on a UNIX socket.")
    helo = Attribute("str: what the client called itself; '' before HELO.")
    isExtended = Attribute("bool: whether it said EHLO (or LHLO).")
    isSecure = Attribute("bool: whether TLS is on.")
    isLoopback = Attribute("bool: whether listener and client are on this machine.")
    isSubmission = Attribute("bool: whether it came in by a submission listener (RFC 6409).")
    isLmtp = Attribute("bool: whether this is LMTP (RFC 2033).")
    identity = Attribute("str or None: the login it authenticated as.")
    limits = Attribute("Limits in force.")
    transaction = Attribute("ITransaction or None.")

    def expectLines(receiver: Callable[[bytes], MaybeDeferredReply]) -> None:
        """Give the following lines (without CRLF) to `receiver`, State LINES, for as long as it
        answers 3yz; any other reply ends the dialogue."""

    def refusal(verb: str) -> Reply | None:
        """None where `verb` is in sequence now, else the 503 that says what is missing."""

    def expectContent(octets: int, isLast: bool, refusal: Reply | None = None) -> None:
        """The next `octets` octets are content of the transaction (BDAT), State CHUNK.

        The command has no reply of its own: it is answered when they have come, with `refusal`
        where there is one, which ends the transaction."""

    def drainContent(octets: int, answer: Reply) -> None:
        """Read over the next `octets` octets, then say `answer` in the State as it is now."""

    def startTLS() -> None:
        """After this command's reply the connection turns to TLS and the session begins anew."""

    def authenticated(identity: str) -> None:
        """The client proved to be `identity`."""


class ILogin(Interface):
    """The avatar of who logged in, by twisted.cred."""

    identity = Attribute("str: the address it may be known by, as in the directory.")


class IServerExtension(Interface):
    """The server half of an ESMTP extension; one object serves all sessions and keeps no state.

    State belongs in the session's transaction (parameters) or in a closure given to the session.
    Two extensions that declare the same parameter or verb are an error at the start.
    """

    mailParams = Attribute("frozenset of parameter names of MAIL it answers for, upper case.")
    rcptParams = Attribute("frozenset of parameter names of RCPT it answers for, upper case.")
    verbs = Attribute("Mapping of the verbs it answers to the longest command line in octets.")

    def getKeyword() -> str:
        """The EHLO keyword."""

    def atEhlo(session: ISession) -> str | None:
        """The keyword's parameters ('' for none), or None: not offered in this condition."""

    def atMail(transaction: ITransaction, params: Parameters) -> MaybeDeferredAnswer:
        """Check the parameters of MAIL that are mine; None, or the Reply that refuses.

        Called only where at least one of them is there."""

    def atRcpt(
        transaction: ITransaction, forwardPath: Mailbox, params: Parameters
    ) -> MaybeDeferredAnswer:
        """Check the parameters of RCPT that are mine, likewise."""

    def atCommand(session: ISession, command: Command) -> MaybeDeferredAnswer:
        """Carry out a command whose verb is mine; None only after `expectContent` or
        `drainContent`. Whether it is in sequence is asked by `session.refusal`."""


class IPolicy(Interface):
    """Whom we refuse. A policy only vetoes: None lets pass, a Reply refuses."""

    def atConnect(session: ISession) -> MaybeDeferredAnswer:
        """Before the greeting; a Reply is said in its place, as a 421, which ends the session."""

    def atMail(transaction: ITransaction) -> MaybeDeferredAnswer:
        """After the grammar and the extensions of MAIL."""

    def atRcpt(transaction: ITransaction, forwardPath: Mailbox) -> MaybeDeferredAnswer:
        """Before the directory is asked."""

    def atContent(transaction: ITransaction, content: Content) -> MaybeDeferredAnswer:
        """After the end of the data, before the store; the content may be read, not closed."""


class IExtensionPlugin(IPlugin):
    """What a module in `twisted/plugins` offers to `--extension NAME`."""

    name = Attribute("str: what it is asked for by.")

    def make(options: Mapping[str, str]) -> IServerExtension:
        """A new extension; ValueError or TypeError where `options` will not do."""


class IPolicyPlugin(IPlugin):
    """What a module in `twisted/plugins` offers to `--policy NAME`."""

    name = Attribute("str: what it is asked for by.")

    def make(options: Mapping[str, str]) -> IPolicy:
        """A new policy, likewise."""


class ISessionObserver(Interface):
    """Hears what sessions do: log lines, metrics. It must not raise and must be quick."""

    def sessionOpened(session: ISession) -> None:
        """A client has connected."""

    def sessionClosed(session: ISession, reason: str) -> None:
        """A client has gone; `reason` in a few words."""

    def commandRefused(session: ISession, verb: str, argument: bytes, reply: Reply) -> None:
        """A command, or the content (verb DATA or BDAT), was answered 4yz or 5yz."""

    def messageStored(session: ISession, message: Message, seconds: float) -> None:
        """A message was committed, `seconds` after the end of its data."""


class UnexpectedReply(Exception):
    """A command was answered with a code that was not expected; `reply` is the answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.code} {reply.enhanced} {reply.text}")
        self.reply = reply


class CommandSentException(Exception):
    """An extension has sent the command itself; `reply` is the Deferred of its Reply."""

    def __init__(self, reply: Deferred[Reply]) -> None:
        super().__init__("the command has been sent")
        self.reply = reply


class IContentProducer(Interface):
    """Gives the octets of a message, of the shape of twisted.web's IBodyProducer."""

    length = Attribute("int: octets in all; anything else: not known.")

    def startProducing(consumer: IConsumer) -> Deferred[None]:
        """Write to `consumer` from now on; fires after the last octet, never once stopped."""

    def pauseProducing() -> None:
        """Write no more until told so."""

    def resumeProducing() -> None:
        """Go on."""

    def stopProducing() -> None:
        """Write no more at all."""


class IClientTransaction(Interface):
    """A mail transaction a client is about to begin, as its extensions see it."""

    sender = Attribute("str: local-part@domain, '' for <>.")
    recipients = Attribute("tuple of str: likewise.")
    parameters = Attribute("Parameters of MAIL the sender asked for.")
    recipientParameters = Attribute("Mapping of a recipient to the Parameters of RCPT, likewise.")
    size = Attribute("int or None: octets of content, where known.")
    traits = Attribute("mailsrv.smtp.survey.Traits of the content, or None: not known.")
    usesChunks = Attribute("bool: whether the content will go by BDAT.")


class IOctetBuffer(Interface):
    """The octets of a client's connection, in both directions (`getBuffer()` of the writer)."""

    def write(octets: bytes) -> None:
        """Send octets as they are."""

    def startTLS(
        connectionCreator: IOpenSSLClientConnectionCreator, isVerified: bool
    ) -> Deferred[None]:
        """Turn the connection to TLS; fires after the handshake.

        `isVerified`: whether the creator verifies the host's certificate. Fails with
        UnexpectedReply where the handshake fails, and where octets in clear are left over, which
        ends the connection. All that was learnt before is forgotten, EHLO is said again."""


class IEsmtpCommandWriter(Interface):
    """What client extensions write commands with."""

    hostname = Attribute("str: the server's name, which its certificate must be for.")
    isSecure = Attribute("bool: whether TLS is on.")
    isVerified = Attribute("bool: whether, too, the certificate is the host's.")

    def getBuffer() -> IOctetBuffer:
        """The octets in both directions."""

    def executeCommand(command: Command, expectedCodes: Collection[int] = ()) -> Deferred[Reply]:
        """Send a command and wait for its reply; fails with UnexpectedReply where its code is
        not among `expectedCodes` (none given: any will do).

        A connection that ends answers too: with the server's 421, or with a LocalReply 451.
        Cancelling ends the connection. ValueError where the command is more than one line."""


class IClientExtension(Interface):
    """The client half of an ESMTP extension; one object serves all connections, without state.

    It is asked whether or not the server offers its keyword: `params` are the keyword's
    parameters ('' for none), None where it is not offered. Parameters it then adds all the same
    are left out.
    """

    def getKeyword() -> str:
        """The EHLO keyword it serves."""

    def afterEhlo(writer: IEsmtpCommandWriter, params: str | None) -> MaybeDeferredAnswer:
        """A turn after EHLO (or HELO). None, or the Reply that makes this connection useless.

        After an extension has turned TLS on, EHLO is said again and all are asked anew."""

    def getMailParams(transaction: IClientTransaction, params: str | None) -> Parameters | Reply:
        """The parameters to add to MAIL, or the Reply that refuses the message: nothing of it
        is sent then. Of two extensions that add the same parameter the later one wins."""

    def getRcptParams(
        transaction: IClientTransaction, forwardPath: str, params: str | None
    ) -> Parameters | Reply:
        """The parameters to add to RCPT, or the Reply that refuses this recipient, likewise."""

    def atCommand(
        writer: IEsmtpCommandWriter, command: Command, expectedCodes: Collection[int]
    ) -> None:
        """A turn at each command before it is sent, where the keyword is offered.

        It may send the command itself, with what it likes before it, and raise
        CommandSentException, which carries the Deferred of the reply. What it says to `writer`
        is not shown to extensions again."""


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message that is queued, without its content; the fields are those of Message.

    `size`: octets of its content.
    """

    id: str
    receivedAt: datetime
    sender: str
    parameters: str
    trace: bytes
    size: int


@dataclass(frozen=True, slots=True)
class QueueItem:
    """An address elsewhere that a message is queued for, claimed to be tried.

    `claim`: names the claim, and nothing else ever. `domain`: of `address`, lower case, as
    A-label. `recipient`, `parameters`: the accepted forward-path it comes from, and the parameters
    of that RCPT as given. `attempts`: so far. `isDelayReported`: the sender knows that it takes
    longer. `createdAt`: aware, UTC.
    """

    id: int
    claim: str
    message: QueuedMessage
    address: str
    domain: str
    recipient: str
    parameters: str
    attempts: int
    isDelayReported: bool
    createdAt: datetime


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an attempt: `state` is 'sent', 'failed', or 'waiting' for another.

    `reply`: what the next hop said, or why it could not be asked. `nextAttemptAt`: of what is
    waiting; aware, UTC. `isDelayReported`: the report that goes with it tells of a delay.
    `recipients`, `forwards`: where else the message is to be found from now on, where an address
    turned out to be one of ours.
    """

    item: QueueItem
    state: str
    reply: str
    nextAttemptAt: datetime | None = None
    isDelayReported: bool = False
    recipients: tuple[Recipient, ...] = ()
    forwards: tuple[Forward, ...] = ()


class IQueue(Interface):
    """The queue of mail for addresses elsewhere; all that relay it share it.

    Every method fails with one of `mailsrv.smtp.errors`: Unavailable, OutOfRoom, CannotStore.
    """

    def claim(
        limit: int, now: datetime, until: datetime, excluded: Collection[str]
    ) -> Deferred[list[QueueItem]]:
        """Claim at most `limit` addresses due now, none of the domains `excluded`.

        Nobody else claims them before `until`, unless they are released."""

    def renew(items: Sequence[QueueItem], until: datetime) -> Deferred[None]:
        """Keep what has not been settled claimed for longer; a claim that is lost stays lost."""

    def release(items: Sequence[QueueItem]) -> Deferred[None]:
        """Give claims back: what has not been settled is as due as it was."""

    def settle(
        outcomes: Sequence[Outcome], report: Message | None, now: datetime
    ) -> Deferred[bool]:
        """Write what came of attempts, and store the report of it, in one transaction.

        Fires with whether any of it was news, after the COMMIT; what was not (the claim had
        lapsed, the outcome was written before) is left as it is, and no report is stored then."""

    def read(messageId: str, index: int) -> Deferred[bytes]:
        """The `index`th MiB of a message's octets, from 0; fails with CannotStore where there
        is none."""


# Events for the application


@dataclass(frozen=True, slots=True)
class Event:
    """A message was stored.

    `id` is the message's, and so the same at each attempt and each replay; `key` is the event's
    number in the outbox. `attempt`: 1 the first time. `putUpAt`: when it was put up, or replayed
    last; both times are aware, UTC. `raw`: the message's exact octets where the receiver asks
    for them and they are not too many, else None. The other fields are those of Message.
    """

    key: int
    id: str
    attempt: int
    putUpAt: datetime
    receivedAt: datetime
    sender: str
    recipients: tuple[Recipient, ...]
    summary: Summary
    size: int
    sha256: str
    parameters: str = ""
    helo: str = ""
    peer: str = ""
    protocol: str = "SMTP"
    raw: bytes | None = None


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """What became of an event: no `error`: delivered; an `error`: to be tried again at `retryAt`
    (aware, UTC), or, without that, given up."""

    key: int
    error: str | None = None
    retryAt: datetime | None = None


class EventRefused(Exception):
    """The receiver did not take the event; the text says why.

    `retryAfter`: seconds after which it would like to be asked again. `isGone`: never again.
    """

    def __init__(self, reason: str, retryAfter: float | None = None, isGone: bool = False) -> None:
        super().__init__(reason)
        self.retryAfter = retryAfter
        self.isGone = isGone


class IEventSource(Interface):
    """The outbox: events of messages that are committed, in the order they are to be delivered."""

    def turn(
        destination: str, outcomes: Sequence[EventOutcome], limit: int, lease: float, octets: int
    ) -> Deferred[list[Event]]:
        """Write down what became of earlier events, and claim the next, `limit` at most.

        Nobody else is given them for `lease` seconds. An event waits while an earlier one for
        the same mailbox (or address) and destination does. They come with their raw message
        where it has at most `octets` octets. A turn that failed may be said again.
        """

    def prune() -> Deferred[bool]:
        """Remove what was delivered or given up long ago; whether there may be more to do."""


class IEventReceiver(Interface):
    """An application that is told of messages."""

    destination = Attribute("str: what its rows in the outbox are known by; 255 characters.")
    octets = Attribute("int: the largest message it wants raw with its event; 0: none.")

    def receive(event: Event) -> Deferred[None]:
        """Deliver an event, at least once; fires when it is taken.

        Fails with EventRefused or anything else: it is tried again later. May be cancelled.
        """

    def close() -> Deferred[None]:
        """Give back what it holds; nothing is delivered any more."""
