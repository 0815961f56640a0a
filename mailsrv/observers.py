"""What sessions do, as log lines."""

from __future__ import annotations

import re
from functools import lru_cache
from time import time

from twisted.logger import Logger, LogLevel
from zope.interface import implementer

from mailsrv.interfaces import ISession, ISessionObserver
from mailsrv.smtp.message import Message
from mailsrv.smtp.reply import Reply

MAX_TEXT = 320  # characters of one address or argument in a line
MAX_RECIPIENTS = 10  # recipients named in a line, the others are counted

# Verbs whose argument is shown. Nobody else's is, and no word that is none of ours: either may
# be half of a login that went astray.
_WITH_ARGUMENT = frozenset({"HELO", "EHLO", "LHLO", "MAIL", "RCPT", "VRFY", "EXPN", "BDAT"})
_BARE = frozenset({"AUTH", "DATA", "HELP", "NOOP", "QUIT", "RSET", "STARTTLS"})
_OBSOLETE = frozenset({"SAML", "SEND", "SOML", "TURN"})
_WORDS = _WITH_ARGUMENT | _BARE | _OBSOLETE

# What may stand in a line as it is: no white space, no < > \, no control character.
_PLAIN = re.compile(r"[!-;=?-\[\]-~]*")


@lru_cache(maxsize=1024)  # senders and recipients come again
def escaped(text: str) -> str:
    """The text, cut at a sane length, so that it cannot end its line, its brackets or its field.

    Blanks, < > \\ and whatever is not printable become backslash escapes.
    """
    if len(text) > MAX_TEXT:
        text = text[:MAX_TEXT] + "…"
    if _PLAIN.fullmatch(text):
        return text
    return "".join(
        each if each.isprintable() and each not in " <>\\" else f"\\u{{{ord(each):x}}}"
        for each in text
    )


@implementer(ISessionObserver)
class LogObserver:
    """One line for each message stored and for each refusal.

    Every field of a line is a key of the log event too, for programs. Connections have no line
    of their own unless `withSessions` asks for it.
    """

    def __init__(self, log: Logger | None = None, withSessions: bool = False) -> None:
        self._log = log or Logger(namespace="smtpstore")
        self._withSessions = withSessions

    def sessionOpened(self, session: ISession) -> None:
        if self._withSessions:
            self._log.debug("opened peer={peer}", peer=session.peer)

    def sessionClosed(self, session: ISession, reason: str) -> None:
        if self._withSessions:
            self._log.debug(
                "closed peer={peer} reason={reason}", peer=session.peer, reason=escaped(reason)
            )

    def commandRefused(self, session: ISession, verb: str, argument: bytes, reply: Reply) -> None:
        """One line: who, which verb, what was answered, to which argument where it is shown."""
        shown = repr(argument[:MAX_TEXT])[1:] if verb in _WITH_ARGUMENT and argument else "-"
        self._log.info(
            "refused peer={peer} verb={verb} reply={reply!r} argument={argument}",
            peer=session.peer,
            verb=verb if verb in _WORDS else "?",
            reply=reply.octets[:-2].decode().replace("\r\n", " / "),
            argument=shown,
        )

    def messageStored(self, session: ISession, message: Message, seconds: float) -> None:
        """One line: the id, who, from, to, octets, milliseconds from end of data to COMMIT."""
        addresses = [recipient.address for recipient in message.recipients]
        if message.forwards or len(addresses) > 1:
            # A forward-path has a row for each of its mailboxes and addresses elsewhere.
            addresses += [forward.recipient for forward in message.forwards]
            addresses = list(dict.fromkeys(addresses))
        recipients = f"<{'>,<'.join(map(escaped, addresses[:MAX_RECIPIENTS]))}>"
        if len(addresses) > MAX_RECIPIENTS:
            recipients += f",+{len(addresses) - MAX_RECIPIENTS}"
        sender = escaped(message.sender)
        size = message.content.size
        milliseconds = round(seconds * 1000, 1)
        log = self._log
        # The event of log.info("{line}", …), which takes 2 µs more to make. The line is made here
        # and not out of a format of six fields: that would cost a quarter more.
        log.observer(
            {
                "line": f"stored id={message.id} peer={message.peer} from=<{sender}> "
                f"to={recipients} size={size} ms={milliseconds}",
                "id": message.id,
                "peer": message.peer,
                "sender": sender,
                "recipients": recipients,
                "size": size,
                "milliseconds": milliseconds,
                "log_logger": log,
                "log_level": LogLevel.info,
                "log_namespace": log.namespace,
                "log_source": log.source,
                "log_format": "{line}",
                "log_time": time(),
            }
        )
