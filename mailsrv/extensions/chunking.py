"""CHUNKING and BINARYMIME: content by BDAT, octets counted (RFC 3030)."""

from __future__ import annotations

import re

from mailsrv.extensions.extension import ClientExtension, ServerExtension
from mailsrv.interfaces import IClientTransaction, ISession, MaybeDeferredAnswer
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import MAX_LINE, Command, Parameters

_ARGUMENT = re.compile(rb"([0-9]{1,18})(?:[ \t]+(LAST))?", re.IGNORECASE)
BAD_CHUNK = r.reply(501, "5.5.4", "Syntax error: BDAT octets [LAST]")


class ChunkingServer(ServerExtension):
    """Takes content in counted chunks; a chunk that is refused is read over, to stay in step.

    BINARYMIME is the keyword beside it; what BODY=BINARYMIME asks for stands in body.py.
    """

    keyword = "CHUNKING"
    verbs = {"BDAT": MAX_LINE}

    def atCommand(self, session: ISession, command: Command) -> MaybeDeferredAnswer:
        match = _ARGUMENT.fullmatch(command.argument)
        if match is None:
            return BAD_CHUNK
        octets, isLast = int(match[1]), match[2] is not None
        refusal = session.refusal("BDAT")
        if refusal is not None:
            session.drainContent(octets, refusal)
        elif session.transaction.size + octets > session.limits.maxSize:
            session.expectContent(octets, isLast, r.TOO_BIG)
        else:
            session.expectContent(octets, isLast)
        return None


class ChunkingClient(ClientExtension):
    """Lets content go by BDAT where DATA would not carry it as it is: no CRLF at its end, a line
    over 1,000 octets, a NUL, and, with BinaryMimeClient, a bare CR or LF."""

    keyword = "CHUNKING"


class BinaryMimeClient(ClientExtension):
    """Says BODY=BINARYMIME of content that goes by BDAT (RFC 3030 §3); stands behind BodyClient."""

    keyword = "BINARYMIME"

    def getMailParams(self, transaction: IClientTransaction, params: str | None) -> Parameters:
        return {"BODY": "BINARYMIME"} if transaction.usesChunks else {}
