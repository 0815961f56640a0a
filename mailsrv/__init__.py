"""An SMTP server that lands mail in your own SQL database.

What another Twisted program needs is named here; each name is loaded when it is first used, so
that `import mailsrv` alone costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mailsrv.adapters.twistedmail import TwistedMailDelivery
    from mailsrv.client.envelope import Envelope, RecipientResult, SendResult
    from mailsrv.client.transport import EsmtpTransport
    from mailsrv.extensions.auth import AuthClient, AuthServer
    from mailsrv.extensions.extension import ClientExtension, ServerExtension
    from mailsrv.extensions.standard import clientExtensions, standardExtensions
    from mailsrv.extensions.starttls import StartTlsClient, StartTlsServer, TlsPolicy
    from mailsrv.interfaces.client import (
        CommandSentException,
        IClientExtension,
        IClientTransaction,
        IContentProducer,
        IEsmtpCommandWriter,
        UnexpectedReply,
    )
    from mailsrv.interfaces.events import Event, EventRefused, IEventReceiver, IEventSource
    from mailsrv.interfaces.server import (
        IDirectory,
        ILogin,
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
    from mailsrv.relay.events import CallableReceiver, Courier, Couriers
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
    from mailsrv.store.sqlevents import SqlEvents
    from mailsrv.store.sqlstore import SqlStore

_PLACES = {
    "AuthClient": "extensions.auth",
    "AuthServer": "extensions.auth",
    "CallableReceiver": "relay.events",
    "CannotStore": "smtp.errors",
    "ClientExtension": "extensions.extension",
    "CommandSentException": "interfaces.client",
    "ConnectionPool": "store.pool",
    "Courier": "relay.events",
    "Couriers": "relay.events",
    "Envelope": "client.envelope",
    "EsmtpTransport": "client.transport",
    "Event": "interfaces.events",
    "EventRefused": "interfaces.events",
    "ExtensionPlugin": "plugins",
    "IClientExtension": "interfaces.client",
    "IClientTransaction": "interfaces.client",
    "IContentProducer": "interfaces.client",
    "IDirectory": "interfaces.server",
    "IEsmtpCommandWriter": "interfaces.client",
    "IEventReceiver": "interfaces.events",
    "IEventSource": "interfaces.events",
    "ILogin": "interfaces.server",
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
    "RecipientResult": "client.envelope",
    "RelayPolicy": "policies.relay",
    "Reply": "smtp.reply",
    "Resolution": "interfaces.server",
    "SendResult": "client.envelope",
    "ServerExtension": "extensions.extension",
    "SinkDirectory": "store.directory",
    "SmtpServerFactory": "server.factory",
    "SpoolBudget": "server.spool",
    "SqlDirectory": "store.directory",
    "SqlEvents": "store.sqlevents",
    "SqlStore": "store.sqlstore",
    "StartTlsClient": "extensions.starttls",
    "StartTlsServer": "extensions.starttls",
    "Summary": "smtp.message",
    "TlsPolicy": "extensions.starttls",
    "TwistedMailDelivery": "adapters.twistedmail",
    "Unavailable": "smtp.errors",
    "UnexpectedReply": "interfaces.client",
    "clientExtensions": "extensions.standard",
    "parseUrl": "store.dialect",
    "reply": "smtp.reply",
    "standardExtensions": "extensions.standard",
    "upgrade": "store.migrate",
}

__all__ = [
    "AuthClient",
    "AuthServer",
    "CallableReceiver",
    "CannotStore",
    "ClientExtension",
    "CommandSentException",
    "ConnectionPool",
    "Courier",
    "Couriers",
    "Envelope",
    "EsmtpTransport",
    "Event",
    "EventRefused",
    "ExtensionPlugin",
    "IClientExtension",
    "IClientTransaction",
    "IContentProducer",
    "IDirectory",
    "IEsmtpCommandWriter",
    "IEventReceiver",
    "IEventSource",
    "ILogin",
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
    "RecipientResult",
    "RelayPolicy",
    "Reply",
    "Resolution",
    "SendResult",
    "ServerExtension",
    "SinkDirectory",
    "SmtpServerFactory",
    "SpoolBudget",
    "SqlDirectory",
    "SqlEvents",
    "SqlStore",
    "StartTlsClient",
    "StartTlsServer",
    "Summary",
    "TlsPolicy",
    "TwistedMailDelivery",
    "Unavailable",
    "UnexpectedReply",
    "clientExtensions",
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
