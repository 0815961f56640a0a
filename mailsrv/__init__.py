"""An SMTP server that lands mail in your own SQL database.

What another Twisted program needs is named here; each name is loaded when it is first used, so
that `import mailsrv` alone costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailsrv.adapters.twistedmail import TwistedMailDelivery
    from mailsrv.extensions.extension import ServerExtension
    from mailsrv.extensions.standard import standardExtensions
    from mailsrv.interfaces.server import (
        IDirectory,
        IMessageStore,
        IPolicy,
        IServerExtension,
        ISession,
        ISessionObserver,
        ITransaction,
        Limits,
        Resolution,
    )
    from mailsrv.plugins import ExtensionPlugin, PolicyPlugin
    from mailsrv.policies.policy import Policy
    from mailsrv.policies.relay import RelayPolicy
    from mailsrv.server.factory import SmtpServerFactory
    from mailsrv.server.site import Listener
    from mailsrv.server.spool import SpoolBudget
    from mailsrv.smtp.address import Mailbox
    from mailsrv.smtp.errors import CannotStore, OutOfRoom, Unavailable
    from mailsrv.smtp.message import Message, Recipient, Summary
    from mailsrv.smtp.reply import Reply, reply
    from mailsrv.store.dialect import parseUrl
    from mailsrv.store.directory import SinkDirectory, SqlDirectory
    from mailsrv.store.memory import MemoryStore
    from mailsrv.store.migrate import upgrade
    from mailsrv.store.pool import ConnectionPool
    from mailsrv.store.sqlstore import SqlStore

_PLACES = {
    "CannotStore": "smtp.errors",
    "ConnectionPool": "store.pool",
    "ExtensionPlugin": "plugins",
    "IDirectory": "interfaces.server",
    "IMessageStore": "interfaces.server",
    "IPolicy": "interfaces.server",
    "IServerExtension": "interfaces.server",
    "ISession": "interfaces.server",
    "ISessionObserver": "interfaces.server",
    "ITransaction": "interfaces.server",
    "Limits": "interfaces.server",
    "Listener": "server.site",
    "Mailbox": "smtp.address",
    "MemoryStore": "store.memory",
    "Message": "smtp.message",
    "OutOfRoom": "smtp.errors",
    "Policy": "policies.policy",
    "PolicyPlugin": "plugins",
    "Recipient": "smtp.message",
    "RelayPolicy": "policies.relay",
    "Reply": "smtp.reply",
    "Resolution": "interfaces.server",
    "ServerExtension": "extensions.extension",
    "SinkDirectory": "store.directory",
    "SmtpServerFactory": "server.factory",
    "SpoolBudget": "server.spool",
    "SqlDirectory": "store.directory",
    "SqlStore": "store.sqlstore",
    "Summary": "smtp.message",
    "TwistedMailDelivery": "adapters.twistedmail",
    "Unavailable": "smtp.errors",
    "parseUrl": "store.dialect",
    "reply": "smtp.reply",
    "standardExtensions": "extensions.standard",
    "upgrade": "store.migrate",
}

__all__ = [
    "CannotStore",
    "ConnectionPool",
    "ExtensionPlugin",
    "IDirectory",
    "IMessageStore",
    "IPolicy",
    "IServerExtension",
    "ISession",
    "ISessionObserver",
    "ITransaction",
    "Limits",
    "Listener",
    "Mailbox",
    "MemoryStore",
    "Message",
    "OutOfRoom",
    "Policy",
    "PolicyPlugin",
    "Recipient",
    "RelayPolicy",
    "Reply",
    "Resolution",
    "ServerExtension",
    "SinkDirectory",
    "SmtpServerFactory",
    "SpoolBudget",
    "SqlDirectory",
    "SqlStore",
    "Summary",
    "TwistedMailDelivery",
    "Unavailable",
    "parseUrl",
    "reply",
    "standardExtensions",
    "upgrade",
]


def __getattr__(name: str) -> Any:
    place = _PLACES.get(name)
    if place is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{place}"), name)
