"""The extensions a server has without being asked, in the order of its EHLO reply."""

from __future__ import annotations

from mailsrv.extensions.body import BodyClient, BodyServer
from mailsrv.extensions.chunking import BinaryMimeClient, ChunkingClient, ChunkingServer
from mailsrv.extensions.dsn import DsnClient, DsnServer
from mailsrv.extensions.keywords import ClientKeyword, Keyword, LimitsKeyword
from mailsrv.extensions.size import SizeClient, SizeServer
from mailsrv.extensions.smtputf8 import SmtpUtf8Client, SmtpUtf8Server
from mailsrv.interfaces import IClientExtension, IServerExtension


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


def clientExtensions() -> list[IClientExtension]:
    """New client halves of all extensions that need no configuration.

    A StartTlsClient and an AuthClient go before them.
    """
    return [
        ClientKeyword("PIPELINING"),
        SizeClient(),
        BodyClient(),
        SmtpUtf8Client(),
        ChunkingClient(),
        BinaryMimeClient(),
        DsnClient(),
    ]
