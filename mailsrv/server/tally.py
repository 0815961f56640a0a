"""How often a client may be wrong before it is sent away."""

from __future__ import annotations

from mailsrv.interfaces import Limits
from mailsrv.smtp.reply import Reply

# Errors of syntax and sequence, and wrong passwords.
_ERRORS = frozenset({500, 501, 502, 503, 504, 535, 555})
_REFUSED_RECIPIENT = frozenset({550, 551, 553, 452})


class Tally:
    """Counts a session's errors and its refused recipients since the last message accepted."""

    __slots__ = ("_errors", "_limits", "_refusedRecipients")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.reset()

    def reset(self) -> None:
        """A message was accepted: all is forgiven."""
        self._errors = 0
        self._refusedRecipients = 0

    def isTooMany(self, verb: str, reply: Reply) -> bool:
        """Count the reply to `verb`; whether it is one more than the client may have."""
        if reply.code in _ERRORS:
            self._errors += 1
        elif verb == "RCPT" and reply.code in _REFUSED_RECIPIENT:
            self._refusedRecipients += 1
        return (
            self._errors > self._limits.maxErrors
            or self._refusedRecipients > self._limits.maxRefusedRecipients
        )
