"""Extensions that are only a word in the EHLO reply.

PIPELINING (RFC 2920), ENHANCEDSTATUSCODES (RFC 2034), HELP, VRFY and EXPN (RFC 5321 §4.1.1.1),
LIMITS (RFC 9422).
"""

from __future__ import annotations

from mailsrv.extensions.extension import ClientExtension, ServerExtension
from mailsrv.interfaces import ISession


class Keyword(ServerExtension):
    """A keyword without behaviour of its own."""

    def __init__(self, keyword: str) -> None:
        self.keyword = keyword


class LimitsKeyword(ServerExtension):
    """LIMITS RCPTMAX=n (RFC 9422): how many recipients a transaction takes."""

    keyword = "LIMITS"

    def atEhlo(self, session: ISession) -> str | None:
        return f"RCPTMAX={session.limits.maxRecipients}"


class ClientKeyword(ClientExtension):
    """A keyword whose use the client itself knows: given PIPELINING, it sends commands in groups.

    Others have no behaviour.
    """

    def __init__(self, keyword: str) -> None:
        self.keyword = keyword
