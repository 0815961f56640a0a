"""What all sessions of a server share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator

from mailsrv.interfaces import (
    IDirectory,
    IMessageStore,
    IPolicy,
    IServerExtension,
    ISession,
    ISessionObserver,
    Limits,
)
from mailsrv.server.messageid import MessageIds
from mailsrv.server.spool import SpoolBudget
from mailsrv.server.vetoes import Checks
from mailsrv.smtp.message import Content, Summary

Extractor = Callable[[Content], Summary | Deferred[Summary]]


@dataclass(frozen=True, slots=True)
class Listener:
    """How a connection came in: what differs between the ports of one server.

    `isSecure`: TLS from the first octet. `isSubmission`: RFC 6409, who sends must log in.
    `isLmtp`: RFC 2033. `isProxied`: behind a PROXY header, which is awaited before the greeting.
    """

    isSecure: bool = False
    isSubmission: bool = False
    isLmtp: bool = False
    isProxied: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """A server's own name, its store and directory, its rules: constant while it runs.

    `seconds`: a monotonic clock. `now`: aware UTC. `tls`: makes the connections of STARTTLS.
    `ehloOffers`: the extensions' keywords, and who says whether each is offered. `connectChecks`
    and the like: what the policies ask at each of their moments.
    Raises ValueError where two extensions declare the same parameter or verb.
    """

    hostname: str
    store: IMessageStore
    directory: IDirectory
    limits: Limits
    extensions: Sequence[IServerExtension]
    policies: Sequence[IPolicy]
    observer: ISessionObserver
    budget: SpoolBudget
    spoolDirectory: str | None
    extract: Extractor
    seconds: Callable[[], float]
    now: Callable[[], datetime]
    tls: IOpenSSLServerConnectionCreator | None = None
    allowVrfy: bool = True
    allowExpn: bool = True
    ids: MessageIds = field(default_factory=MessageIds)
    ehloOffers: Sequence[tuple[str, Callable[[ISession], str | None]]] = field(init=False)
    mailOwners: Mapping[str, IServerExtension] = field(init=False)
    rcptOwners: Mapping[str, IServerExtension] = field(init=False)
    verbOwners: Mapping[str, IServerExtension] = field(init=False)
    connectChecks: Checks = field(init=False)
    mailChecks: Checks = field(init=False)
    rcptChecks: Checks = field(init=False)
    contentChecks: Checks = field(init=False)

    def __post_init__(self) -> None:
        offers = tuple((each.getKeyword(), each.atEhlo) for each in self.extensions)
        object.__setattr__(self, "ehloOffers", offers)
        for name, declared in (
            ("mailOwners", "mailParams"),
            ("rcptOwners", "rcptParams"),
            ("verbOwners", "verbs"),
        ):
            object.__setattr__(self, name, _owners(self.extensions, declared))
        for name, moment in (
            ("connectChecks", "atConnect"),
            ("mailChecks", "atMail"),
            ("rcptChecks", "atRcpt"),
            ("contentChecks", "atContent"),
        ):
            checks = tuple(getattr(policy, moment) for policy in self.policies)
            object.__setattr__(self, name, checks)


def _owners(
    extensions: Sequence[IServerExtension], declared: str
) -> Mapping[str, IServerExtension]:
    owners: dict[str, IServerExtension] = {}
    for extension in extensions:
        for name in getattr(extension, declared):
            if name in owners:
                raise ValueError(
                    f"two extensions claim {name}: {owners[name].getKeyword()} and"
                    f" {extension.getKeyword()}; leave one of them out"
                )
            owners[name] = extension
    return owners
