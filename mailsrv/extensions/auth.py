"""AUTH: logging in with PLAIN or LOGIN (RFC 4954, RFC 4616)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import LoginFailed
from twisted.cred.portal import Portal
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from mailsrv.extensions.extension import ClientExtension, ServerExtension
from mailsrv.extensions.throttle import Throttle
from mailsrv.interfaces import (
    IEsmtpCommandWriter,
    ILogin,
    ISession,
    ITransaction,
    MaybeDeferredAnswer,
    MaybeDeferredReply,
    UnexpectedReply,
)
from mailsrv.smtp import local
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import Command, Parameters
from mailsrv.smtp.errors import Busy
from mailsrv.smtp.reply import Reply
from mailsrv.smtp.xtext import isXtext

MAX_AUTH_LINE = 12_288  # octets with CRLF, RFC 4954 §4.3
WRONG_DELAY = 1.0  # seconds before a wrong password is said to be wrong

SUCCEEDED = r.reply(235, "2.7.0", "Authentication succeeded")
WRONG = r.reply(535, "5.7.8", "Authentication credentials invalid")
THROTTLED = r.reply(454, "4.7.0", "Too many wrong passwords from your address, try again later")
BUSY = r.reply(454, "4.7.0", "Too many logins at once, try again later")
NEEDS_TLS = r.reply(538, "5.7.11", "Encryption is required for this mechanism")
UNKNOWN_MECHANISM = r.reply(504, "5.5.4", "Authentication mechanism not supported")
ALREADY_DONE = r.reply(503, "5.5.1", "Bad sequence of commands: already authenticated")
IN_TRANSACTION = r.reply(503, "5.5.1", "Bad sequence of commands: a transaction is open")
NOT_BASE64 = r.reply(501, "5.5.2", "Syntax error: not base64, or cancelled")
CONTINUE = r.reply(334, "", "")
USERNAME = r.reply(334, "", base64.b64encode(b"Username:").decode())
PASSWORD = r.reply(334, "", base64.b64encode(b"Password:").decode())

LogIn = Callable[[ISession, bytes, bytes], Awaitable[Reply]]


class AuthServer(ServerExtension):
    """Logs clients in against a twisted.cred Portal whose avatars provide ILogin.

    Passwords travel only in TLS, or, with `allowInsecure`, over loopback. A wrong one is said so
    after a second; `throttle` counts them by client address, never by account. `clock` waits.
    """

    keyword = "AUTH"
    mailParams = frozenset({"AUTH"})
    verbs = {"AUTH": MAX_AUTH_LINE}

    def __init__(
        self,
        portal: Portal,
        clock: IReactorTime,
        throttle: Throttle | None = None,
        allowInsecure: bool = False,
    ) -> None:
        self._portal = portal
        self._clock = clock
        self._throttle = throttle or Throttle(clock.seconds)
        self._allowInsecure = allowInsecure

    def atEhlo(self, session: ISession) -> str | None:
        return " ".join(_MECHANISMS) if self._isOffered(session) else None

    def _isOffered(self, session: ISession) -> bool:
        return bool(session.isSecure or (self._allowInsecure and session.isLoopback))

    def atMail(self, transaction: ITransaction, params: Parameters) -> MaybeDeferredAnswer:
        value = params["AUTH"]
        isRight = value is not None and (value == "<>" or isXtext(value))
        return None if isRight else r.BAD_PARAMETER

    def atCommand(self, session: ISession, command: Command) -> MaybeDeferredAnswer:
        if not session.isExtended:
            return r.HELO_FIRST
        if session.transaction is not None:
            return IN_TRANSACTION
        if session.identity is not None:
            return ALREADY_DONE
        if not command.argument:
            return r.ARGUMENT_REQUIRED
        name, _, initial = command.argument.decode("ascii").partition(" ")
        mechanism = _MECHANISMS.get(name.upper())
        if mechanism is None:
            return UNKNOWN_MECHANISM
        if not self._isOffered(session):
            return NEEDS_TLS
        if self._throttle.isClosed(session.peer):
            return THROTTLED
        dialogue = mechanism(session, self._logIn)
        if initial.strip():
            return dialogue.begin(initial.strip().encode("ascii"))
        session.expectLines(dialogue.lineReceived)
        return dialogue.challenge

    async def _logIn(self, session: ISession, name: bytes, password: bytes) -> Reply:
        """Ask the portal; 235 and the session is authenticated, or 535 after a second."""
        if self._throttle.isClosed(session.peer):  # it was not yet when the dialogue began
            return THROTTLED
        try:
            credentials = UsernamePassword(name, password)
            avatar: Any = await self._portal.login(credentials, None, ILogin)
        except Busy:
            return BUSY
        except LoginFailed:
            self._throttle.failed(session.peer)
            await deferLater(self._clock, WRONG_DELAY)
            return WRONG
        session.authenticated(avatar[1].identity)
        return SUCCEEDED


class _Mechanism:
    """A dialogue under way: base64 lines in, a Reply for each out."""

    challenge = CONTINUE

    def __init__(self, session: ISession, logIn: LogIn) -> None:
        self._session = session
        self._logIn = logIn

    def begin(self, initial: bytes) -> MaybeDeferredReply:
        """The initial response, which came with the command; `=` stands for an empty one."""
        answer = self.lineReceived(b"" if initial == b"=" else initial)
        if not isinstance(answer, Deferred) and answer.code == 334:
            self._session.expectLines(self.lineReceived)
        return answer

    def lineReceived(self, line: bytes) -> MaybeDeferredReply:
        """A response of the client; `*` cancels (RFC 4954 §4)."""
        try:
            return self.responded(base64.b64decode(line, validate=True))
        except binascii.Error:
            return NOT_BASE64

    def responded(self, response: bytes) -> MaybeDeferredReply:
        """The response, decoded."""
        raise NotImplementedError

    def finish(self, name: bytes, password: bytes) -> Deferred[Any]:
        """Both are known."""
        return Deferred.fromCoroutine(_coroutine(self._logIn(self._session, name, password)))


class _Plain(_Mechanism):
    """authorization-id NUL authentication-id NUL password, in one go (RFC 4616)."""

    def responded(self, response: bytes) -> MaybeDeferredReply:
        parts = response.split(b"\0")
        if len(parts) != 3:
            return NOT_BASE64
        authorization, name, password = parts
        if authorization not in (b"", name):
            # Nobody may act for somebody else here; it is answered as a wrong password is.
            password = b""
        return self.finish(name, password)


class _Login(_Mechanism):
    """The user name, then the password (draft-murchison-sasl-login)."""

    challenge = USERNAME
    _name: bytes | None = None

    def responded(self, response: bytes) -> MaybeDeferredReply:
        if self._name is None:
            self._name = response
            return PASSWORD
        return self.finish(self._name, response)


async def _coroutine(awaitable: Awaitable[Reply]) -> Reply:
    return await awaitable


_MECHANISMS: dict[str, type[_Mechanism]] = {"PLAIN": _Plain, "LOGIN": _Login}


class AuthClient(ClientExtension):
    """Logs in with a name and a password, by PLAIN, or LOGIN where only that is offered.

    They are given to the host whose certificate has been verified and to nobody else, so a
    StartTlsClient with TlsPolicy.VERIFIED goes before it, or the endpoint is a TLS one; with
    `allowInsecure` in clear too, which is for tests on loopback. Credentials that are not
    accepted end the connection: mail does not go without them.
    """

    keyword = "AUTH"

    def __init__(self, name: str, password: str, allowInsecure: bool = False) -> None:
        if "\0" in name + password:
            raise ValueError("NUL in a name or password")
        self._name = name.encode()
        self._password = password.encode()
        self._allowInsecure = allowInsecure

    def afterEhlo(self, writer: IEsmtpCommandWriter, params: str | None) -> MaybeDeferredAnswer:
        if not (writer.isVerified or self._allowInsecure):
            return local.TLS_FOR_CREDENTIALS
        mechanisms = (params or "").upper().split()
        if "PLAIN" in mechanisms:
            words = [b"PLAIN " + _base64(b"\0" + self._name + b"\0" + self._password)]
        elif "LOGIN" in mechanisms:
            words = [b"LOGIN", _base64(self._name), _base64(self._password)]
        else:
            return local.AUTH_NOT_OFFERED
        return Deferred.fromCoroutine(self._logIn(writer, words))

    async def _logIn(self, writer: IEsmtpCommandWriter, words: list[bytes]) -> Reply | None:
        said = await _converse(writer, words)
        secrets = {self._password, *(word.removeprefix(b"PLAIN ") for word in words)}
        secrets -= {b"", b"LOGIN"}
        if said is not None and any(each.decode() in said.text for each in secrets):
            # Some repeat a command they do not like, and replies are logged and kept.
            return Reply(said.code, said.enhanced, ("What it said holds the credentials",))
        return said


async def _converse(writer: IEsmtpCommandWriter, words: list[bytes]) -> Reply | None:
    """Say AUTH, and each further response when asked for it; the last is answered 235."""
    commands = [Command("AUTH", words[0])]
    commands += [Command(word.decode("ascii")) for word in words[1:]]
    try:
        for command in commands[:-1]:
            await writer.executeCommand(command, (334,))
        await writer.executeCommand(commands[-1], (235,))
    except UnexpectedReply as unexpected:
        said = unexpected.reply
        return local.outOfPlace(said) if said.isPositive else said
    return None


def _base64(octets: bytes) -> bytes:
    return base64.b64encode(octets)
