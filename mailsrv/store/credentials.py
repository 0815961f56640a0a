"""Logging in with an address and password of `users`, by twisted.cred (RFC 4954)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import IUsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.threads import deferToThreadPool
from twisted.logger import Logger
from twisted.python.threadpool import ThreadPool
from zope.interface import implementer

from mailsrv.interfaces import ILogin
from mailsrv.smtp.address import parseMailbox
from mailsrv.smtp.errors import Busy, Unavailable
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.queries import Txn

_log = Logger()

# argon2id of nothing anybody knows, with the parameters `smtpstore user passwd` hashes with: it
# is tried for a user who is not there, so that the time taken tells nobody who is.
_NOBODY = (
    "$argon2id$v=19$m=65536,t=3,p=4$ZdfYxS+Ylr8sIJWrOtH7BQ$"
    "0gZeCZLZw1XfPc+XUeZbuYOxE54RG5NJ9Fu8z7DT2+8"
)


class PasswordVerifier:
    """Verifies argon2id hashes in threads of their own: 64 MiB and some 50 ms each.

    `threads` at once; with `maxWaiting` in line the next fails with Busy. `start` and `stop`
    are its owner's to call.
    """

    def __init__(self, reactor: Any, threads: int = 2, maxWaiting: int = 64) -> None:
        self._reactor = reactor
        self._hasher = PasswordHasher()
        self._threads = ThreadPool(0, threads, "password")
        self._maxWaiting = maxWaiting
        self._waiting = 0

    def start(self) -> None:
        """Be ready."""
        self._threads.start()

    def stop(self) -> None:
        """Wait for what is under way, and end the threads."""
        if self._threads.started:
            self._threads.stop()

    def verify(self, passwordHash: str | None, password: bytes) -> Deferred[bool]:
        """Whether `password` is the one hashed; None is verified too, takes as long, and never
        is."""
        if self._waiting >= self._maxWaiting:
            raise Busy("too many passwords are being verified")
        self._waiting += 1
        answer: Deferred[bool] = Deferred()
        job = deferToThreadPool(
            self._reactor, self._threads, self._verify, passwordHash, password, answer
        )
        # What waits is counted until its thread has done: a client that hangs up frees no place.
        job.addBoth(self._verified, answer)
        return answer

    def _verify(self, passwordHash: str | None, password: bytes, answer: Deferred[bool]) -> bool:
        if answer.called:
            return False  # nobody waits for it any more
        try:
            isRight = self._hasher.verify(passwordHash or _NOBODY, password)
        except (VerificationError, InvalidHashError, UnicodeError):
            return False
        return isRight and passwordHash is not None

    def _verified(self, result: Any, answer: Deferred[bool]) -> None:
        self._waiting -= 1
        if not answer.called:
            answer.callback(result)


@implementer(ICredentialsChecker)
class SqlPasswords:
    """The credentials checker over `users`: the avatar's id is the address as it stands there.

    `timeout`: seconds the database has for its answer. It owns neither pool nor verifier.
    """

    credentialInterfaces = (IUsernamePassword,)

    def __init__(
        self,
        pool: ConnectionPool,
        verifier: PasswordVerifier,
        clock: IReactorTime,
        timeout: float = 30.0,
    ) -> None:
        self._pool = pool
        self._verifier = verifier
        self._clock = clock
        self._timeout = timeout

    def requestAvatarId(self, credentials: Any) -> Deferred[bytes | tuple[()]]:
        """The address, as octets; fails with UnauthorizedLogin, Busy or Unavailable."""
        return Deferred.fromCoroutine(self._check(credentials.username, credentials.password))

    async def _check(self, name: bytes, password: bytes) -> bytes:
        mailbox = parseMailbox(name.decode("utf-8", "replace"))
        found: tuple[str, str | None] | None = None
        if mailbox is not None:
            try:
                asked = self._pool.runInteraction(_passwordTxn, mailbox.key)
                found = await asked.addTimeout(self._timeout, self._clock)
            except CancelledError:
                raise
            except Exception as error:
                _log.warn("a login cannot be checked: {error}", error=type(error).__name__)
                raise Unavailable("a login cannot be checked") from error
        address, passwordHash = found or ("", None)
        if not await self._verifier.verify(passwordHash, password):
            raise UnauthorizedLogin
        return address.encode()


def _passwordTxn(txn: Txn, key: str) -> tuple[str, str | None] | None:
    txn.execute("SELECT address, password_hash FROM users WHERE address_key = ?", (key,))
    row = txn.fetchone()
    return None if row is None else (row[0], row[1])


@implementer(ILogin)
@dataclass(frozen=True, slots=True)
class Login:
    """Who logged in."""

    identity: str


@implementer(IRealm)
class LoginRealm:
    """The realm whose avatars are ILogin: whoever the checkers let in is known by that id."""

    def requestAvatar(self, avatarId: bytes | tuple[()], mind: object, *interfaces: Any) -> Any:
        if ILogin not in interfaces or not isinstance(avatarId, bytes):
            raise NotImplementedError("the only avatar here is the ILogin of a user")
        return ILogin, Login(avatarId.decode()), _logOut


def _logOut() -> None:
    """Nothing to give back."""
