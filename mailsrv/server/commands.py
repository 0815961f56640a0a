"""The commands: one function for each, in the order of RFC 5321 §4.1.1.

A function is called only where its verb is in sequence. It reads the grammar, asks extensions,
policies and the directory, in this order, and tells the session what follows: it changes no State
itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from mailsrv.interfaces import (
    Answer,
    IServerExtension,
    MaybeDeferredAnswer,
    MaybeDeferredReply,
    Resolution,
)
from mailsrv.server.help import NOT_IMPLEMENTED, helpReply
from mailsrv.server.site import Listener
from mailsrv.server.state import State, refusal
from mailsrv.server.transaction import Transaction
from mailsrv.server.vetoes import Checks, firstVeto
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox, isDomain
from mailsrv.smtp.command import Command, Parameters, parsePath
from mailsrv.smtp.reply import Reply

if TYPE_CHECKING:
    from mailsrv.server.session import Session

Handler = Callable[["Session", Command], MaybeDeferredAnswer]


# §4.1.1.1
def helo(session: Session, command: Command) -> Answer:
    return _hello(session, command, isExtended=False)


def ehlo(session: Session, command: Command) -> Answer:
    return _hello(session, command, isExtended=True)


def _hello(session: Session, command: Command, isExtended: bool) -> Reply:
    domain = command.argument.decode("ascii")
    if not isDomain(domain):
        return r.BAD_HELO
    session.introduced(domain, isExtended)
    if not isExtended:
        return _greets(session.hostname, domain)
    offered = [(keyword, ask(session)) for keyword, ask in session.site.ehloOffers]
    return _greets(session.hostname, domain, *offered)


@lru_cache(maxsize=256)
def _greets(hostname: str, domain: str, *offered: tuple[str, str | None]) -> Reply:
    """Remembered, since clients come again: 13 µs a connection less."""
    keywords = [f"{keyword} {said}".rstrip() for keyword, said in offered if said is not None]
    return r.reply(250, "", f"{hostname} greets {domain}", *keywords)


# §4.1.1.2
def mail(session: Session, command: Command) -> MaybeDeferredAnswer:
    argument = command.argument
    if not argument.isascii() and b"SMTPUTF8" not in argument.upper():
        return r.NEEDS_SMTPUTF8
    path, parameters = parsePath(argument, b"FROM:")
    if path.localPart and not path.domain:
        return r.BAD_PATH
    if not argument.isascii() and "SMTPUTF8" not in parameters:
        return r.NEEDS_SMTPUTF8
    owners, checks = session.site.mailOwners, session.site.mailChecks
    if not parameters.keys() <= owners.keys():
        return r.UNKNOWN_PARAMETER
    transaction = Transaction(session, path, parameters)
    veto = firstVeto(_extended(checks, _atMail, parameters, owners), transaction)
    if veto is None or isinstance(veto, Reply):
        return _mailAnswered(veto, session, transaction)
    return veto.addCallback(_mailAnswered, session, transaction)


def _atMail(
    owner: IServerExtension, mine: Parameters, transaction: Transaction
) -> MaybeDeferredAnswer:
    return owner.atMail(transaction, mine)


def _mailAnswered(veto: Answer, session: Session, transaction: Transaction) -> Reply:
    if veto is not None:
        return veto
    session.begin(transaction)
    return r.SENDER_OK


# §4.1.1.3
def rcpt(session: Session, command: Command) -> MaybeDeferredAnswer:
    argument, transaction = command.argument, session.transaction
    assert transaction is not None
    if not argument.isascii() and "SMTPUTF8" not in transaction.parameters:
        return r.NEEDS_SMTPUTF8
    path, parameters = parsePath(argument, b"TO:")
    if path.isNull:
        return r.BAD_PATH
    owners, checks = session.site.rcptOwners, session.site.rcptChecks
    if not parameters.keys() <= owners.keys():
        return r.UNKNOWN_PARAMETER
    if transaction.accepted >= session.limits.maxRecipients:
        return r.TOO_MANY_RECIPIENTS
    veto = firstVeto(_extended(checks, _atRcpt, parameters, owners), transaction, path)
    if veto is None or isinstance(veto, Reply):
        return _resolve(veto, session, path, parameters)
    return veto.addCallback(_resolve, session, path, parameters)


def _atRcpt(
    owner: IServerExtension, mine: Parameters, transaction: Transaction, path: Mailbox
) -> MaybeDeferredAnswer:
    return owner.atRcpt(transaction, path, mine)


def _resolve(
    veto: Answer, session: Session, path: Mailbox, parameters: Parameters
) -> MaybeDeferredReply:
    if veto is not None:
        return veto
    found = session.site.directory.resolve(path)
    if isinstance(found, Resolution):
        return _resolved(found, session, path, parameters)
    return found.addCallback(_resolved, session, path, parameters)


def _resolved(found: Resolution, session: Session, path: Mailbox, parameters: Parameters) -> Reply:
    if found.reply.isPositive:
        session.accept(path, parameters, found)
    return found.reply


# §4.1.1.4
def data(session: Session, command: Command) -> Answer:
    assert session.transaction is not None
    if command.argument:
        return r.DATA_TAKES_NO_ARGUMENT
    if session.transaction.needsChunks:
        return r.BAD_SEQUENCE
    session.expectData()
    return r.START_MAIL_INPUT


# §4.1.1.5
def rset(session: Session, command: Command) -> Answer:
    if command.argument:
        return r.NO_ARGUMENT_ALLOWED
    session.reset()
    return r.OK


# §4.1.1.6
def vrfy(session: Session, command: Command) -> MaybeDeferredAnswer:
    if not session.site.allowVrfy:
        return r.CANNOT_VERIFY
    if not command.argument:
        return r.ARGUMENT_REQUIRED
    return session.site.directory.verify(command.argument.decode("ascii"))


# §4.1.1.7
def expn(session: Session, command: Command) -> MaybeDeferredAnswer:
    if not session.site.allowExpn:
        return r.CANNOT_VERIFY
    if not command.argument:
        return r.ARGUMENT_REQUIRED
    return session.site.directory.expand(command.argument.decode("ascii"))


# §4.1.1.8
def help_(session: Session, command: Command) -> Answer:
    verbs = _handlersOf(session).keys() | session.site.verbOwners.keys()
    return helpReply(command.argument.decode("ascii").upper(), frozenset(verbs))


# §4.1.1.9
def noop(session: Session, command: Command) -> Answer:
    return r.NO_ARGUMENT_ALLOWED if command.argument else r.OK


# §4.1.1.10
def quit_(session: Session, command: Command) -> Answer:
    if command.argument:
        return r.NO_ARGUMENT_ALLOWED
    session.end()
    return r.closing(session.hostname)


# App. F
def notImplemented(session: Session, command: Command) -> Answer:
    return r.NOT_IMPLEMENTED


def _extended(
    checks: Checks,
    ask: Callable[..., MaybeDeferredAnswer],
    parameters: Parameters,
    owners: Mapping[str, IServerExtension],
) -> Checks:
    """`checks`, and before them what the extensions say of their own parameters."""
    if not parameters:
        return checks
    return [*(partial(ask, owner, mine) for owner, mine in _byOwner(parameters, owners)), *checks]


def _byOwner(
    parameters: Parameters, owners: Mapping[str, IServerExtension]
) -> Iterable[tuple[IServerExtension, Parameters]]:
    """Each extension with those of the parameters that are its own."""
    mine: dict[int, tuple[IServerExtension, dict[str, str | None]]] = {}
    for name, value in parameters.items():
        owner = owners[name]
        mine.setdefault(id(owner), (owner, {}))[1][name] = value
    return mine.values()


_COMMON: Mapping[str, Handler] = {
    "MAIL": mail,
    "RCPT": rcpt,
    "DATA": data,
    "RSET": rset,
    "VRFY": vrfy,
    "EXPN": expn,
    "HELP": help_,
    "NOOP": noop,
    "QUIT": quit_,
    **dict.fromkeys(NOT_IMPLEMENTED, notImplemented),
}
_SMTP: Mapping[str, Handler] = {"HELO": helo, "EHLO": ehlo, **_COMMON}
_LMTP: Mapping[str, Handler] = {"LHLO": ehlo, **_COMMON}
VERBS = frozenset({*_SMTP, *_LMTP})  # what no extension may answer


def _inSequence(handlers: Mapping[str, Handler]) -> Mapping[State, Mapping[str, Handler]]:
    return {
        state: {verb: handlers[verb] for verb in handlers if refusal(state, verb) is None}
        for state in State
    }


_SMTP_IN_SEQUENCE, _LMTP_IN_SEQUENCE = _inSequence(_SMTP), _inSequence(_LMTP)


def handlersInSequence(listener: Listener) -> Mapping[State, Mapping[str, Handler]]:
    """The verbs of the protocol itself, by the State they are allowed in, with their functions."""
    return _LMTP_IN_SEQUENCE if listener.isLmtp else _SMTP_IN_SEQUENCE


def _handlersOf(session: Session) -> Mapping[str, Handler]:
    return _LMTP if session.isLmtp else _SMTP


def outOfSequence(session: Session, command: Command) -> MaybeDeferredAnswer:
    """Answer a verb that is no handler's now: out of sequence, an extension's, or unknown."""
    if command.verb in _handlersOf(session):
        return refusal(session.state, command.verb)
    owner = session.site.verbOwners.get(command.verb)
    if owner is None:
        return r.UNKNOWN_COMMAND
    return owner.atCommand(session, command)
