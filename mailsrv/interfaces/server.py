"""The receiving side: who stores, who may receive, what extensions and policies see."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from twisted.internet.defer import Deferred
from twisted.plugin import IPlugin
from zope.interface import Attribute, Interface

from mailsrv.interfaces.answer import MaybeDeferredAnswer, MaybeDeferredReply
from mailsrv.smtp.address import Mailbox
from mailsrv.smtp.command import Command, Parameters
from mailsrv.smtp.message import Content, Message
from mailsrv.smtp.reply import Reply


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
        """The EHLO keyword; asked for once."""

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
