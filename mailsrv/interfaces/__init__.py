"""The contract page: every interface between the rooms, and towards programs that embed us.

A method that returns "X or a Deferred of X" returns X itself wherever it knows the answer.
"""

from __future__ import annotations

from mailsrv.interfaces.answer import Answer, MaybeDeferredAnswer, MaybeDeferredReply
from mailsrv.interfaces.client import (
    CommandSentException,
    IClientExtension,
    IClientTransaction,
    IContentProducer,
    IEsmtpCommandWriter,
    IOctetBuffer,
    UnexpectedReply,
)
from mailsrv.interfaces.events import (
    Event,
    EventOutcome,
    EventRefused,
    IEventReceiver,
    IEventSource,
)
from mailsrv.interfaces.queue import IQueue, Outcome, QueuedMessage, QueueItem
from mailsrv.interfaces.server import (
    IDirectory,
    IExtensionPlugin,
    ILogin,
    IMessageStore,
    IPolicy,
    IPolicyPlugin,
    IServerExtension,
    ISession,
    ISessionObserver,
    ITransaction,
    Limits,
    Resolution,
)

__all__ = [
    "Answer",
    "CommandSentException",
    "Event",
    "EventOutcome",
    "EventRefused",
    "IClientExtension",
    "IClientTransaction",
    "IContentProducer",
    "IDirectory",
    "IEsmtpCommandWriter",
    "IEventReceiver",
    "IEventSource",
    "IExtensionPlugin",
    "ILogin",
    "IMessageStore",
    "IOctetBuffer",
    "IPolicy",
    "IPolicyPlugin",
    "IQueue",
    "IServerExtension",
    "ISession",
    "ISessionObserver",
    "ITransaction",
    "Limits",
    "MaybeDeferredAnswer",
    "MaybeDeferredReply",
    "Outcome",
    "QueueItem",
    "QueuedMessage",
    "Resolution",
    "UnexpectedReply",
]
