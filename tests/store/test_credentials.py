"""Logging in: argon2 in threads of its own, the users of the database, and what time tells."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import pytest_twisted
from argon2 import PasswordHasher, extract_parameters
from twisted.cred.checkers import ICredentialsChecker
from twisted.cred.credentials import UsernamePassword
from twisted.cred.error import UnauthorizedLogin
from twisted.cred.portal import IRealm, Portal
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import globalLogPublisher
from zope.interface.verify import verifyClass, verifyObject

from mailsrv.interfaces import ILogin
from mailsrv.smtp.errors import Busy, Unavailable
from mailsrv.store import credentials
from mailsrv.store.credentials import LoginRealm, PasswordVerifier, SqlPasswords
from mailsrv.store.dialect import SqliteDialect
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool

QUICK = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
SECRET = QUICK.hash("sécret")


@pytest.fixture
def verifier() -> Iterator[PasswordVerifier]:
    made = PasswordVerifier(reactor, maxWaiting=3)
    made.start()
    yield made
    made.stop()


class Held:
    """Stands for argon2: says what it is asked, and waits until it is let go."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.goOn = threading.Event()

    def verify(self, hashed: str, password: bytes) -> bool:
        self.asked.append(password)
        assert self.goOn.wait(20)
        return True


# The verifier


@pytest_twisted.ensureDeferred
async def test_only_the_right_password_is_right(verifier: PasswordVerifier) -> None:
    assert await verifier.verify(SECRET, "sécret".encode())
    for wrong in (b"", b"secret", b"\xff", b"s\xc3\xa9cret\0"):
        assert not await verifier.verify(SECRET, wrong)


@pytest.mark.parametrize("odd", ["", "plain", "$argon2id$v=19$m=8", "$2b$12$abc", "é", "{SHA}x"])
@pytest_twisted.ensureDeferred
async def test_what_is_no_argon2_hash_lets_nobody_in(verifier: PasswordVerifier, odd: str) -> None:
    assert not await verifier.verify(odd, b"")
    assert not await verifier.verify(odd, odd.encode())


@pytest_twisted.ensureDeferred
async def test_nobody_has_no_password_at_all(verifier: PasswordVerifier) -> None:
    assert not await verifier.verify(None, b"")


def test_nobodys_hash_costs_what_a_users_does() -> None:
    parameters = extract_parameters(credentials._NOBODY)
    assert parameters == extract_parameters(PasswordHasher().hash("x"))


@pytest_twisted.ensureDeferred
async def test_what_waits_is_bounded_even_where_clients_do_not_wait(
    verifier: PasswordVerifier,
) -> None:
    """Who hangs up leaves its hash to be computed: it must not make room for one more."""
    verifier._hasher = held = Held()  # type: ignore[assignment]
    left = [verifier.verify(SECRET, str(n).encode()) for n in range(3)]
    for each in left:
        each.addErrback(lambda failure: failure.trap(CancelledError))
        each.cancel()
    with pytest.raises(Busy):
        verifier.verify(SECRET, b"one more")
    held.goOn.set()
    while True:  # until the threads have come to their end
        try:
            assert await verifier.verify(SECRET, b"last")
            break
        except Busy:
            await _turn()
    assert len(held.asked) <= 3, "nobody wanted to know the third any more"


def _turn() -> Deferred[None]:
    turned: Deferred[None] = Deferred()
    reactor.callLater(0.01, turned.callback, None)  # type: ignore[attr-defined]
    return turned


@pytest_twisted.ensureDeferred
async def test_two_are_verified_at_once(verifier: PasswordVerifier) -> None:
    verifier._hasher = held = Held()  # type: ignore[assignment]
    waiting = [verifier.verify(SECRET, str(n).encode()) for n in range(3)]
    while len(held.asked) < 2:
        await _turn()
    assert len(held.asked) == 2
    held.goOn.set()
    assert [await each for each in waiting] == [True] * 3


def test_a_verifier_that_was_never_started_stops() -> None:
    PasswordVerifier(reactor).stop()


# The checker


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[ConnectionPool]:
    dialect = SqliteDialect(tmp_path / "mail.db")
    upgrade(dialect)
    connection = dialect.connect()
    for address, hashed in (("Bob@example.com", SECRET), ("mute@example.com", None)):
        connection.cursor().execute(
            "INSERT INTO users (address, name, password_hash) VALUES (?, '', ?)", (address, hashed)
        )
    connection.commit()
    connection.close()
    made = ConnectionPool(dialect, reactor, 1, "test")
    yield made
    pytest_twisted.blockon(made.close(5.0))


@pytest.fixture
def passwords(pool: ConnectionPool, verifier: PasswordVerifier) -> SqlPasswords:
    return SqlPasswords(pool, verifier, reactor)  # type: ignore[arg-type]


def ask(passwords: SqlPasswords, name: str, password: str) -> Deferred[Any]:
    return passwords.requestAvatarId(UsernamePassword(name.encode(), password.encode()))


def test_they_keep_the_contracts_of_cred() -> None:
    verifyClass(ICredentialsChecker, SqlPasswords)
    verifyObject(IRealm, LoginRealm())


@pytest.mark.parametrize("name", ["bob@example.com", "BOB@EXAMPLE.COM", "Bob@example.com"])
@pytest_twisted.ensureDeferred
async def test_a_user_is_known_by_the_address_as_it_stands_in_the_table(
    passwords: SqlPasswords, name: str
) -> None:
    assert await ask(passwords, name, "sécret") == b"Bob@example.com"


@pytest.mark.parametrize(
    ("name", "password"),
    [
        ("bob@example.com", "wrong"),
        ("bob@example.com", ""),
        ("nobody@example.com", "sécret"),
        ("mute@example.com", ""),
        ("bob", "sécret"),
        ("", ""),
        ("bob@example.com' OR 1=1 --", "sécret"),
    ],
)
@pytest_twisted.ensureDeferred
async def test_anybody_else_is_refused(passwords: SqlPasswords, name: str, password: str) -> None:
    with pytest.raises(UnauthorizedLogin):
        await ask(passwords, name, password)


@pytest_twisted.ensureDeferred
async def test_the_portal_gives_the_address_as_identity(passwords: SqlPasswords) -> None:
    portal = Portal(LoginRealm(), [passwords])
    login = UsernamePassword(b"bob@example.com", "sécret".encode())
    interface, avatar, logOut = await portal.login(login, None, ILogin)
    assert interface is ILogin
    assert ILogin.providedBy(avatar)
    assert avatar.identity == "Bob@example.com"
    assert logOut() is None
    for avatarId, wanted in ((b"a", IRealm), ((), ILogin)):
        with pytest.raises(NotImplementedError):
            LoginRealm().requestAvatar(avatarId, None, wanted)


class DownPool:
    def runInteraction(self, *_: Any) -> Deferred[Any]:
        raise OSError("password hunter2 at 10.0.0.1")


class MutePool:
    def runInteraction(self, *_: Any) -> Deferred[Any]:
        return Deferred()


@pytest.mark.parametrize("pool", [DownPool(), MutePool()], ids=["down", "mute"])
@pytest_twisted.ensureDeferred
async def test_a_database_that_does_not_answer_is_no_wrong_password(
    pool: Any, verifier: PasswordVerifier
) -> None:
    lines: list[Any] = []
    globalLogPublisher.addObserver(lines.append)
    try:
        checker = SqlPasswords(pool, verifier, reactor, timeout=0.01)  # type: ignore[arg-type]
        with pytest.raises(Unavailable):
            await ask(checker, "bob@example.com", "sécret")
    finally:
        globalLogPublisher.removeObserver(lines.append)
    assert not any("hunter2" in str(line.get("error", "")) for line in lines)


@pytest_twisted.ensureDeferred
async def test_who_hangs_up_is_no_fault_of_the_database(verifier: PasswordVerifier) -> None:
    lines: list[Any] = []
    globalLogPublisher.addObserver(lines.append)
    try:
        asked = ask(SqlPasswords(MutePool(), verifier, reactor), "bob@example.com", "x")  # type: ignore[arg-type]
        asked.cancel()
        with pytest.raises(CancelledError):
            await asked
    finally:
        globalLogPublisher.removeObserver(lines.append)
    assert not [line for line in lines if "cannot be checked" in str(line.get("log_format"))]


@pytest_twisted.ensureDeferred
async def test_the_time_taken_does_not_tell_who_is_a_user(
    pool: ConnectionPool, verifier: PasswordVerifier
) -> None:
    """Measured, with the parameters that real passwords have; the noise of a machine that has
    other things to do is larger than the difference, and far smaller than a hash."""
    real = PasswordHasher().hash("sécret")
    await pool.runInteraction(
        lambda txn: txn.execute(
            "UPDATE users SET password_hash = ? WHERE address = ?", (real, "Bob@example.com")
        )
    )
    passwords = SqlPasswords(pool, verifier, reactor)  # type: ignore[arg-type]

    async def once(name: str) -> float:
        began = time.perf_counter()
        with pytest.raises(UnauthorizedLogin):
            await ask(passwords, name, "wrong")
        return time.perf_counter() - began

    taken: dict[str, list[float]] = {"bob@example.com": [], "nobody@example.com": []}
    for _ in range(5):
        for name, times in taken.items():
            times.append(await once(name))
    known, unknown = (median(times) for times in taken.values())
    assert 0.5 < unknown / known < 2
