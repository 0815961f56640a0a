"""The extensions a server has without being asked, in the order of its EHLO reply."""

from __future__ import annotations

from mailsrv.extensions.body import BodyServer
from mailsrv.extensions.chunking import ChunkingServer
from mailsrv.extensions.dsn import DsnServer
from mailsrv.extensions.keywords import Keyword, LimitsKeyword
from mailsrv.extensions.size import SizeServer
from mailsrv.extensions.smtputf8 import SmtpUtf8Server
from mailsrv.interfaces import IServerExtension


def standardExtensions(*, allowVrfy: bool = True, allowExpn: bool = True) -> list[IServerExtension]:
    """New server halves of all extensions that need no configuration."""
    return [
        Keyword("PIPELINING"),
        SizeServer(),
        BodyServer(),
        SmtpUtf8Server(),
        ChunkingServer(),
        Keyword("BINARYMIME"),
        Keyword("ENHANCEDSTATUSCODES"),
        DsnServer(),
        Keyword("HELP"),
        *([Keyword("VRFY")] if allowVrfy else []),
        *([Keyword("EXPN")] if allowExpn else []),
        LimitsKeyword(),
    ]
