"""Replies: what a server says (RFC 5321 §4.2, enhanced codes of RFC 2034 and 3463)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

_CONTROLS = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply: a code, an enhanced status code ('' for none) and its lines of text.

    `octets` is the reply as it goes over the wire, CRLF included; it is made once, so a
    standard reply costs nothing to send again. Control characters in a text become spaces:
    no text can start a line of its own. (RFC 5321 §4.2)
    """

    code: int
    enhanced: str
    lines: tuple[str, ...]
    octets: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lines = self.lines or ("",)
        prefix = f"{self.enhanced} " if self.enhanced else ""
        wire = f"{self.code} {prefix}{_withoutControls(lines[-1])}"
        if not self.lines:
            wire = wire.rstrip(" ")  # an empty text keeps its space: RFC 4954 §4 wants it
        for text in reversed(lines[:-1]):
            wire = f"{self.code}-{prefix}{_withoutControls(text)}\r\n{wire}"
        object.__setattr__(self, "octets", f"{wire}\r\n".encode())

    @property
    def text(self) -> str:
        """The lines as one string, for logs."""
        return " / ".join(self.lines)

    @property
    def isPositive(self) -> bool:
        """Whether the command succeeded or goes on: 2yz and 3yz."""
        return self.code < 400


def _withoutControls(text: str) -> str:
    return text if text.isprintable() else _CONTROLS.sub(" ", text)


def reply(code: int, enhanced: str, *lines: str) -> Reply:
    """Make a Reply of `lines`; `enhanced` is '' where RFC 2034 asks for none."""
    return Reply(code, enhanced, lines)


def repeated(said: Reply, count: int) -> Reply:
    """`said` as a reply that goes out `count` times over: LMTP owes each recipient one."""
    if count == 1:
        return said
    copy = Reply(said.code, said.enhanced, said.lines)
    object.__setattr__(copy, "octets", said.octets * count)
    return copy


# Replies that name the server: 220, 221 and 421 are read by machines (RFC 5321 §4.2.3). Those of
# every session are made once.
@lru_cache(maxsize=16)
def greeting(host: str, protocol: str = "ESMTP") -> Reply:
    """220 <host> ESMTP … (§4.2.3), or LMTP (RFC 2033 §4)."""
    return reply(220, "", f"{host} {protocol} smtpstore ready")


@lru_cache(maxsize=16)
def closing(host: str) -> Reply:
    """221 to QUIT (§4.1.1.10)."""
    return reply(221, "2.0.0", f"{host} closing the connection")


def unavailable(host: str) -> Reply:
    """421 4.3.0: the database is needed and not there (§3.8)."""
    return reply(421, "4.3.0", f"{host} the mail store is unavailable, try again later")


def shuttingDown(host: str) -> Reply:
    """421 4.3.2 (§3.8)."""
    return reply(421, "4.3.2", f"{host} the server is shutting down, try again later")


def timedOut(host: str) -> Reply:
    """421 4.4.2 (§4.5.3.2)."""
    return reply(421, "4.4.2", f"{host} timed out waiting for you")


def tooManyErrors(host: str) -> Reply:
    """421 4.7.0 in place of the 21st error's own reply."""
    return reply(421, "4.7.0", f"{host} too many errors")


def tooManyConnections(host: str) -> Reply:
    """421 4.7.0 in place of the greeting."""
    return reply(421, "4.7.0", f"{host} too many connections, try again later")


# Success
OK = reply(250, "2.0.0", "OK")
SENDER_OK = reply(250, "2.1.0", "Sender OK")
RECIPIENT_OK = reply(250, "2.1.5", "Recipient OK")
START_MAIL_INPUT = reply(354, "", "Start mail input; end with <CRLF>.<CRLF>")
CANNOT_VERIFY = reply(252, "2.5.0", "Cannot verify the address, but will take mail for it and try")

# 500-504, 555: syntax and sequence
UNKNOWN_COMMAND = reply(500, "5.5.2", "Command not recognised")
LINE_TOO_LONG = reply(500, "5.5.2", "Command line too long")
BARE_LF = reply(500, "5.5.2", "Bare LF: a command line ends with CRLF")
FORBIDDEN_OCTET = reply(500, "5.5.2", "NUL, bare CR or 8-bit octet in a command line")
NO_ARGUMENT_ALLOWED = reply(500, "5.5.2", "Syntax error: this command takes no argument")
DATA_TAKES_NO_ARGUMENT = reply(501, "5.5.4", "Syntax error: DATA takes no argument")
ARGUMENT_REQUIRED = reply(501, "5.5.4", "Syntax error: this command needs an argument")
BAD_HELO = reply(501, "5.5.2", "Syntax error: give a domain or an address literal")
NOT_IMPLEMENTED = reply(502, "5.5.1", "Command not implemented")
HELO_FIRST = reply(503, "5.5.1", "Bad sequence of commands: send HELO or EHLO first")
HELO_TWICE = reply(503, "5.5.1", "Bad sequence of commands: already initialised")
NESTED_MAIL = reply(503, "5.5.1", "Bad sequence of commands: a transaction is open, RSET first")
MAIL_FIRST = reply(503, "5.5.1", "Bad sequence of commands: send MAIL first")
RCPT_FIRST = reply(503, "5.5.1", "Bad sequence of commands: no valid recipients, send RCPT first")
BAD_SEQUENCE = reply(503, "5.5.1", "Bad sequence of commands")
BAD_PATH = reply(501, "5.5.4", "Syntax error: give <local-part@domain> in brackets")
BAD_PARAMETER = reply(501, "5.5.4", "Syntax error in a parameter")
REPEATED_PARAMETER = reply(501, "5.5.4", "Syntax error: a parameter is said twice")
UNKNOWN_PARAMETER = reply(555, "5.5.4", "Parameter not recognised or not implemented")
NEEDS_SMTPUTF8 = reply(553, "5.6.7", "A non-ASCII address needs SMTPUTF8")

# Recipients
NO_SUCH_USER = reply(550, "5.1.1", "No such user here")
RELAY_DENIED = reply(550, "5.7.1", "Relay access denied")
TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "Too many recipients in this transaction")
ALIAS_LOOP = reply(451, "4.3.5", "The address is an alias that leads back to itself")

# Content and storage
CONTENT_LINE_TOO_LONG = reply(500, "5.5.2", "A line of the message is too long, send DATA again")
BARE_NEWLINE = reply(550, "5.6.11", "The message holds a bare CR or LF")
TOO_BIG = reply(552, "5.3.4", "The message is larger than this server takes")
OUT_OF_ROOM = reply(452, "4.3.1", "Out of room to store the message, try again later")
CANNOT_STORE = reply(451, "4.3.0", "The message could not be stored, try again later")
LOCAL_ERROR = reply(451, "4.3.0", "Local error in processing, try again later")
