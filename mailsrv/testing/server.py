"""An SMTP server in a test's own reactor."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import (
    IHandshakeListener,
    IOpenSSLServerConnectionCreator,
    IProtocolFactory,
)
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from zope.interface import implementer

from mailsrv.extensions.auth import AuthServer
from mailsrv.extensions.standard import standardExtensions
from mailsrv.extensions.starttls import StartTlsServer
from mailsrv.interfaces import (
    IDirectory,
    IMessageStore,
    IPolicy,
    IServerExtension,
    ISession,
    Limits,
    MaybeDeferredReply,
    Resolution,
)
from mailsrv.policies.relay import RelayPolicy
from mailsrv.policies.secure import RequireLogin
from mailsrv.server.factory import SmtpServerFactory
from mailsrv.server.site import Listener
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox, domainKey
from mailsrv.smtp.message import Message
from mailsrv.store.dialect import SqliteDialect
from mailsrv.store.directory import SinkDirectory, SqlDirectory
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.queries.users import User, addUserTxn
from mailsrv.store.sqlstore import SqlStore
from mailsrv.testing.faults import DOMAINS, Faults
from mailsrv.testing.inbox import Inbox
from mailsrv.testing.security import certificateIn, portalOf

HOSTNAME = "mail.test"


class MailServer:
    """An SMTP server on a free port of 127.0.0.1, with a SQLite file in a temporary folder.

    `users`: who receives, at whose domains nobody else does; none: everybody (a sink). `tls`:
    STARTTLS on `port`, TLS from the first octet on `tlsPort`, with a certificate for localhost and
    127.0.0.1 that signs itself; clients trust it by its file, `certificate`. `logins`: names and
    passwords of AUTH, in TLS where there is any, else in clear; `requireLogin`: who has not logged
    in is answered 530. `store` takes the place of the SQLite file, a HeldStore for one.
    `extensions` and `policies` come after the standard ones. It makes its tables at once, listens
    from `start`, and is gone after `stop`, with its folder.
    """

    host = "127.0.0.1"

    def __init__(
        self,
        reactor: Any,
        *,
        users: Sequence[str] = (),
        tls: bool = False,
        logins: Mapping[str, str] | None = None,
        requireLogin: bool = False,
        store: IMessageStore | None = None,
        extensions: Sequence[IServerExtension] = (),
        policies: Sequence[IPolicy] = (),
        limits: Limits | None = None,
        stored: Callable[[Message], object] | None = None,
    ) -> None:
        self._reactor = reactor
        self._folder = Path(tempfile.mkdtemp(prefix="smtpstore-"))
        self._dialect = SqliteDialect(self._folder / "mail.db")
        self.db = f"sqlite:{self._dialect.path}"
        upgrade(self._dialect)
        self._addUsers(users)
        self._sqlStore = SqlStore(ConnectionPool(self._dialect, reactor, 1, "commit"), reactor)
        self._lookUps = ConnectionPool(self._dialect, reactor, 1, "look-up")
        self.inbox = Inbox(self._sqlStore if store is None else store, reactor, stored)
        self._tls: IOpenSSLServerConnectionCreator | None = None
        self.certificate = ""
        if tls:
            self._tls, file = certificateIn(self._folder, HOSTNAME)
            self.certificate = str(file)
        auth = [AuthServer(portalOf(logins), reactor, allowInsecure=not tls)] if logins else []
        faults = Faults(reactor, self._drop)
        domains = {domainKey(user.rpartition("@")[2]) for user in users}
        self._factory = SmtpServerFactory(
            self.inbox,
            self._directory(domains),
            reactor,
            hostname=HOSTNAME,
            limits=limits,
            extensions=[*standardExtensions(), StartTlsServer(tls), *auth, *extensions],
            policies=[
                faults,
                RequireLogin(),
                *([RelayPolicy(domains | set(DOMAINS))] if domains else []),
                *policies,
            ],
            observers=[faults],
            tls=self._tls,
        )
        listener = self._factory.forListener(Listener(isSubmission=requireLogin))
        secure = self._factory.forListener(Listener(isSecure=True, isSubmission=requireLogin))
        self._wrapping = [_Wrapping(each) for each in (listener, secure)]
        self._ports: list[Any] = []

    def _addUsers(self, users: Sequence[str]) -> None:
        connection = self._dialect.connect()
        try:
            for user in users:
                addUserTxn(connection.cursor(), User(0, user), None)
            connection.commit()
        finally:
            connection.close()

    def _directory(self, domains: set[str]) -> IDirectory:
        if not domains:
            return SinkDirectory()
        return _WithFaults(SqlDirectory(self._lookUps, sorted(domains), self._reactor))

    @property
    def port(self) -> int:
        """The number of the port, once it listens."""
        return int(self._ports[0].getHost().port)

    @property
    def tlsPort(self) -> int:
        """That of the port where TLS begins with the first octet; 0 without `tls`."""
        return int(self._ports[1].getHost().port) if len(self._ports) > 1 else 0

    def start(self) -> Deferred[MailServer]:
        """Listen; fires with the server itself."""
        self._listen(self._wrapping[0])
        if self._tls is not None:
            from twisted.protocols.tls import TLSMemoryBIOFactory

            secure = TLSMemoryBIOFactory(self._tls, False, self._wrapping[1], self._reactor)
            secure.noisy = False
            self._listen(secure)
        return maybeDeferred(lambda: self)

    def _listen(self, factory: IProtocolFactory) -> None:
        self._ports.append(self._reactor.listenTCP(0, factory, interface=self.host))

    def stop(self) -> Deferred[None]:
        """End all sessions, close the database, remove the folder."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        for port in self._ports:
            await maybeDeferred(port.stopListening)
        await self._factory.shutdown()
        await self._sqlStore.close()
        await self._lookUps.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    async def __aenter__(self) -> MailServer:
        return await self.start()

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def messages(self, to: str | None = None) -> list[Message]:
        """What was committed so far, oldest first; all of it, or what was sent to an address."""
        return self.inbox.messages(to)

    def waitFor(
        self, to: str | None = None, count: int = 1, timeout: float = 10.0
    ) -> Deferred[list[Message]]:
        """Fires with the messages to an address as soon as `count` are committed.

        Fails with AssertionError after `timeout` seconds; its text says what did come.
        """
        return self.inbox.waitFor(to, count, timeout)

    def _drop(self, session: ISession) -> None:
        """Lose the connection of a session, without a word."""
        for wrapper in [each for factory in self._wrapping for each in factory.protocols]:
            if wrapper.wrappedProtocol.session is session:
                wrapper.abortConnection()


@implementer(IHandshakeListener)
class _Wrapper(ProtocolWrapper):
    """A connection that can be dropped; it tells of TLS like one that is not wrapped."""

    def handshakeCompleted(self) -> None:
        IHandshakeListener(self.wrappedProtocol).handshakeCompleted()


class _Wrapping(WrappingFactory):
    """Wraps each connection."""

    protocol = _Wrapper
    noisy = False


@implementer(IDirectory)
class _WithFaults:
    """A directory where the addresses that ask for faults receive too."""

    def __init__(self, directory: IDirectory) -> None:
        self._directory = directory

    def resolve(self, forwardPath: Mailbox) -> Resolution | Deferred[Resolution]:
        if domainKey(forwardPath.domain) in DOMAINS:
            return Resolution(r.RECIPIENT_OK)
        return self._directory.resolve(forwardPath)

    def verify(self, string: str) -> MaybeDeferredReply:
        return self._directory.verify(string)

    def expand(self, string: str) -> MaybeDeferredReply:
        return self._directory.expand(string)
