"""An SMTP session: what was said, and what may come next (RFC 5321 §3); no I/O of its own."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailsrv.interfaces import (
    Answer,
    ISession,
    MaybeDeferredAnswer,
    MaybeDeferredReply,
    Resolution,
)
from mailsrv.server.commands import handlersInSequence, outOfSequence
from mailsrv.server.delivery import Delivery
from mailsrv.server.reception import Reception
from mailsrv.server.site import Listener, Site
from mailsrv.server.spool import Spool
from mailsrv.server.state import State, refusal
from mailsrv.server.tally import Tally
from mailsrv.server.transaction import Transaction
from mailsrv.server.vetoes import firstVeto
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox
from mailsrv.smtp.command import MAX_LINE, Command, Parameters
from mailsrv.smtp.content import CountedReader, DotReader
from mailsrv.smtp.errors import CannotStore, OutOfRoom, SmtpSyntaxError, StoreError, Unavailable
from mailsrv.smtp.reply import Reply

_log = Logger()


@implementer(ISession)
class Session:
    """What a client has told us and what we answer.

    It owns the State (nobody else changes it) and the mail transaction. Commands come in by
    `command`, content by `contentReceived` and `contentEnded`; what the protocol does with the
    next octets follows from `state`. A Deferred answer must fire before the next call.
    """

    __slots__ = (
        "_handlers",
        "_isKnown",
        "_lines",
        "_reception",
        "_resumeState",
        "_tally",
        "helo",
        "hostname",
        "identity",
        "isExtended",
        "isLmtp",
        "isLoopback",
        "isSecure",
        "isSubmission",
        "limits",
        "peer",
        "site",
        "state",
        "transaction",
    )

    def __init__(self, site: Site, listener: Listener) -> None:
        self.site = site
        self.hostname = site.hostname
        self.limits = site.limits
        self.isSubmission = listener.isSubmission
        self.isLmtp = listener.isLmtp
        self.isSecure = listener.isSecure
        self.peer = ""
        self.isLoopback = False
        self._handlers = handlersInSequence(listener)
        self._isKnown = False
        self._tally = Tally(site.limits)
        self._reception: Reception | None = None
        self._lines: Callable[[bytes], MaybeDeferredReply] | None = None
        self._resumeState = State.CONNECTED
        self.state = State.GREETING
        self.transaction: Transaction | None = None
        self._forget()

    def _forget(self) -> None:
        """All that was learnt from the client is forgotten (RFC 3207 §4.2)."""
        self._clear()
        self.helo = ""
        self.isExtended = False
        self.identity: str | None = None

    # Connection

    def connected(self, refusal: Answer = None) -> MaybeDeferredReply:
        """The greeting; or in its place `refusal`, or what a policy says (§3.1)."""
        self._isKnown = True
        self.site.observer.sessionOpened(self)
        if refusal is not None:
            return self.refused(refusal)
        try:
            veto = firstVeto(self.site.connectChecks, self)
        except Exception:
            veto = self._failedAtConnect(Failure())
        if isinstance(veto, Deferred):
            return veto.addErrback(self._failedAtConnect).addCallback(self._greet)
        return self._greet(veto)

    def _greet(self, veto: Answer) -> Reply:
        if veto is not None and veto.code != 421:
            # Nobody is sent away but by a 421 (§3.8).
            veto = r.reply(421, f"4{veto.enhanced[1:]}", f"{self.hostname} {veto.text}")
        if veto is not None:
            return self.refused(veto)
        self.state = State.CONNECTED
        return r.greeting(self.hostname, "LMTP" if self.isLmtp else "ESMTP")

    def _failedAtConnect(self, failure: Failure) -> Reply:
        """Nobody is greeted, nor left without a word: 421, whatever the fault is."""
        self._failed(failure)
        return r.unavailable(self.hostname)

    def refused(self, reply: Reply) -> Reply:
        """Say `reply` in place of whatever was due; the session is over."""
        self.end()
        return self._said(reply, "", b"")

    def timedOut(self) -> Reply:
        """The client took too long (§4.5.3.2)."""
        return self.refused(r.timedOut(self.hostname))

    def shutDown(self) -> Reply:
        """The server stops (§3.8)."""
        return self.refused(r.shuttingDown(self.hostname))

    def connectionLost(self, reason: str) -> None:
        """The client has gone; one that was never known is not reported."""
        self.end()
        if self._isKnown:
            self.site.observer.sessionClosed(self, reason)

    def secured(self) -> None:
        """TLS is on: the session begins anew (RFC 3207 §4.2)."""
        self._forget()
        self.isSecure = True
        self.state = State.CONNECTED

    # Commands

    def lineLimit(self, verb: str) -> int:
        """The longest command line of `verb`, octets with its CRLF."""
        owner = self.site.verbOwners.get(verb)
        return MAX_LINE if owner is None else owner.verbs[verb]

    def malformed(self, reply: Reply, line: bytes) -> Reply:
        """A line that is no command is answered `reply`; it counts as an error, and ends an
        extension's dialogue."""
        if self.state is State.LINES:
            return self._lineAnswered(reply)
        return self._said(reply, "", line)

    def command(self, command: Command) -> MaybeDeferredAnswer:
        """Carry out a command: the one door.

        Returns its Reply or a Deferred of it (which never fails); None for BDAT, answered when
        its octets have come.
        """
        verb, argument, _ = command
        handler = self._handlers[self.state].get(verb, outOfSequence)
        try:
            answer = handler(self, command)
        except SmtpSyntaxError as error:
            answer = error.reply
        except Exception:
            answer = self._failed(Failure())
        if isinstance(answer, Reply) or answer is None:  # first: a Deferred takes 0.1 µs to tell
            return self._answered(answer, verb, argument)
        return answer.addErrback(self._failed).addCallback(self._answered, verb, argument)

    def _answered(self, answer: Answer, verb: str, argument: bytes) -> Answer:
        if answer is None or answer.code < 400:
            return answer
        return self._said(answer, verb, argument)

    def line(self, line: bytes) -> MaybeDeferredReply:
        """A line of an extension's dialogue, without its CRLF (State LINES)."""
        receiver = self._lines
        assert receiver is not None
        try:
            answer = receiver(line)
        except Exception:
            answer = self._failed(Failure())
        if isinstance(answer, Reply):
            return self._lineAnswered(answer)
        return answer.addErrback(self._failed).addCallback(self._lineAnswered)

    def _lineAnswered(self, reply: Reply) -> Reply:
        if not 300 <= reply.code < 400 and self.state is State.LINES:
            self._lines = None
            self.state = self._resumeState
        return self._said(reply, "AUTH", b"")

    def _said(self, reply: Reply, verb: str, argument: bytes) -> Reply:
        """Count and report a refusal; the reply to say may then be another."""
        if reply.code < 400:
            return reply
        if self._tally.isTooMany(verb, reply):
            reply = r.tooManyErrors(self.hostname)
        self._report(reply, verb, argument)
        return reply

    def _report(self, refusal: Reply, verb: str, argument: bytes) -> None:
        if refusal.code == 421:
            self.end()
        self.site.observer.commandRefused(self, verb, argument, refusal)

    def _failed(self, failure: Failure) -> Reply:
        """A fault of ours as a reply: never a 5yz, no exception text on the wire."""
        if failure.check(Unavailable) is not None:
            return r.unavailable(self.hostname)
        if failure.check(OutOfRoom) is not None:
            return r.OUT_OF_ROOM
        if failure.check(CannotStore) is not None:
            return r.CANNOT_STORE
        if failure.check(CancelledError, StoreError) is None:
            _log.failure("a fault in the server", failure)
        return r.LOCAL_ERROR

    def _clear(self) -> None:
        """The transaction is over, with all it holds."""
        if self.transaction is not None:
            self.transaction.abandon()
            self.transaction = None
        self._reception = None

    # What commands change

    def introduced(self, domain: str, isExtended: bool) -> None:
        """The client said HELO, or (`isExtended`) EHLO or LHLO; an open transaction is over."""
        self._clear()
        self.helo = domain
        self.isExtended = isExtended
        self.state = State.READY

    def begin(self, transaction: Transaction) -> None:
        """MAIL was accepted."""
        if self.state is not State.CLOSED:
            self.transaction = transaction
            self.state = State.MAIL

    def accept(self, forwardPath: Mailbox, parameters: Parameters, found: Resolution) -> None:
        """RCPT was accepted."""
        if self.transaction is not None:
            self.transaction.accept(forwardPath, parameters, found)
            self.state = State.RCPT

    def expectData(self) -> None:
        """The next octets are content, up to the dot, State DATA."""
        assert self.transaction is not None
        limits = self.limits
        reader = DotReader(limits.maxSize, limits.maxLine, limits.acceptBareNewlines)
        self._reception = Reception("DATA", reader, self._newSpool(self.transaction))
        self.state = State.DATA

    def reset(self) -> None:
        """The transaction is over; the session goes on."""
        self._clear()
        if self.state is not State.CLOSED:
            self.state = State.READY if self.helo else State.CONNECTED

    def end(self) -> None:
        """The reply that is due is the last one."""
        self._clear()
        self.state = State.CLOSED

    # Content

    def contentReceived(self, data: bytes) -> bytes | None:
        """Take raw octets; None until the content has ended, then the octets behind it."""
        assert self._reception is not None
        return self._reception.feed(data)

    def contentEnded(self) -> MaybeDeferredReply:
        """All octets of the data, or of a chunk, have come: the reply, or a Deferred of it.

        It fires after the COMMIT, and never fails. On LMTP the reply to the last of a message is
        said once for each recipient.
        """
        reception, self._reception = self._reception, None
        assert reception is not None
        fault = reception.fault
        if reception.isDrained:
            assert fault is not None
            self.state = self._resumeState
            return self._said(fault, reception.verb, b"")
        if fault is not None:
            return self._contentSaid(fault, reception)
        if not reception.isLast:
            self.state = State.CHUNKS
            return r.OK
        assert self.transaction is not None
        self.state = State.STORING
        try:
            answer = Delivery(self.site, self, self.transaction).start()
        except Exception:
            answer = self._failed(Failure())
        if isinstance(answer, Deferred):
            return answer.addBoth(self._contentSaid, reception)
        return self._contentSaid(answer, reception)

    def _contentSaid(self, answer: Reply | Failure, reception: Reception) -> Reply:
        """The content was answered: the transaction ends, but for lines too long (SMTP only)."""
        reply = self._failed(answer) if isinstance(answer, Failure) else answer
        owed = 1
        if self.isLmtp and reception.isLast and self.transaction is not None:
            owed = self.transaction.accepted
        if reply is r.CONTENT_LINE_TOO_LONG and not self.isLmtp and self.transaction is not None:
            self.transaction.abandon()
            self.state = State.RCPT
        else:
            self.reset()
        if reply.isPositive:
            self._tally.reset()
        else:
            self._report(reply, reception.verb, b"")
        return reply if reply.code == 421 else r.repeated(reply, owed)

    # What extensions may do to a session (ISession)

    def refusal(self, verb: str) -> Reply | None:
        return refusal(self.state, verb)

    def expectLines(self, receiver: Callable[[bytes], MaybeDeferredReply]) -> None:
        self._lines = receiver
        self._resumeState = self.state
        self.state = State.LINES

    def expectContent(self, octets: int, isLast: bool, refusal: Reply | None = None) -> None:
        transaction = self.transaction
        assert transaction is not None
        transaction.usesChunks = True
        self._reception = Reception(
            "BDAT",
            CountedReader(octets),
            transaction.spool or self._newSpool(transaction),
            isLast=isLast,
            refusal=refusal,
        )
        self.state = State.CHUNK

    def drainContent(self, octets: int, answer: Reply) -> None:
        self._reception = Reception(
            "BDAT", CountedReader(octets), None, refusal=answer, isDrained=True
        )
        self._resumeState = self.state
        self.state = State.CHUNK

    def startTLS(self) -> None:
        self._clear()
        self.state = State.TLS

    def authenticated(self, identity: str) -> None:
        self.identity = identity

    def _newSpool(self, transaction: Transaction) -> Spool:
        transaction.abandon()
        transaction.spool = Spool(self.site.budget, self.site.spoolDirectory)
        return transaction.spool
