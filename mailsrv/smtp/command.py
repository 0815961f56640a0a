"""Commands: a verb, its argument, and the parameters of MAIL and RCPT (RFC 5321 §4.1.1)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import NamedTuple

from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox, scanPath
from mailsrv.smtp.errors import SmtpSyntaxError
from mailsrv.smtp.reply import Reply

MAX_LINE = 2048  # octets of a command line with its CRLF (§4.5.3.1.4, raised for extensions)

Parameters = Mapping[str, str | None]

_LINE_RE = re.compile(rb"([A-Za-z]++)(?:[ \t]++(.*+))?", re.DOTALL)
_WORD_RE = re.compile("[^ \t]+")
_PARAMETER_RE = re.compile("([A-Za-z0-9][A-Za-z0-9-]*+)(?:=([!-<>-~\u0080-\U0010ffff]++))?")
_NO_PARAMETERS: Parameters = MappingProxyType({})
_CLEAN_LINE_RE = re.compile(rb"[^\0\r\x80-\xff]*\r")
_FORBIDDEN_RE = re.compile(rb"[\0\r]")
# As nearly everybody writes them; what is not found here is read in full.
_VERBS = {verb.encode(): verb for verb in ("EHLO", "MAIL", "RCPT", "DATA", "BDAT", "RSET", "QUIT")}
_REMEMBERED = 512  # octets of a line, at the most


class Command(NamedTuple):
    """A command: `verb` in upper case ('' for what is none), `argument` as it came.

    `parameters` are what a client's extensions add to MAIL and RCPT; a server reads them out of
    the argument with `parsePath`, after it has asked whether the verb is in sequence.
    """

    verb: str
    argument: bytes = b""
    parameters: Parameters = _NO_PARAMETERS

    @classmethod
    def parse(cls, line: bytes) -> Command:
        """The command in `line`, which comes without its CRLF; trailing white space is ignored.

        What does not begin with a word of letters has the verb ''. (§2.4, §4.1.1)
        """
        word, _, rest = line.partition(b" ")
        known = _VERBS.get(word)
        if known is not None:
            return cls(known, rest.strip(b" \t"))
        match = _LINE_RE.fullmatch(line.rstrip(b" \t"))
        if match is None:
            return cls("", line)
        return cls(match[1].decode("ascii").upper(), match[2] or b"")

    @property
    def octets(self) -> bytes:
        """The command as a client sends it, CRLF included."""
        line = self.verb.encode("ascii")
        if self.argument:
            line += b" " + self.argument
        return line + formatParameters(self.parameters).encode() + b"\r\n"


def readLine(line: bytes) -> tuple[Command, Reply | None]:
    """The command in `line`, which comes without its LF, and what forbids to carry it out, if
    anything does: a CR missing before that LF, an octet no command may hold. (§2.3.8, §4.1.1)

    What begins with a verb of `_VERBS` is remembered, as clients and their senders and recipients
    come again: 0.5 µs a line less. Nothing else is: it may be a login.
    """
    if line[:4] in _VERBS and len(line) <= _REMEMBERED:
        return _recentLine(line)
    return _readLine(line)


def _readLine(line: bytes) -> tuple[Command, Reply | None]:
    command = Command.parse(line.removesuffix(b"\r"))
    return command, _faultOf(line, command.verb)


_recentLine = lru_cache(maxsize=1024)(_readLine)


def _faultOf(line: bytes, verb: str) -> Reply | None:
    if _CLEAN_LINE_RE.fullmatch(line) is not None:
        return None
    if not line.endswith(b"\r"):
        return r.BARE_LF
    if verb in ("MAIL", "RCPT") and _FORBIDDEN_RE.search(line, 0, len(line) - 1) is None:
        return None  # 8-bit octets in a path are the session's question (RFC 6531)
    return r.FORBIDDEN_OCTET


def formatParameters(parameters: Parameters) -> str:
    """The parameters as they stand in a command, each with a space before it."""
    if not parameters:
        return ""
    return "".join(
        [f" {name}" if value is None else f" {name}={value}" for name, value in parameters.items()]
    )


def parsePath(argument: bytes, prefix: bytes) -> tuple[Mailbox, Parameters]:
    """Read `FROM:<path> …` or `TO:<path> …`: the mailbox and the parameters, names in upper case.

    One space after the colon is tolerated. Octets over 127 are read as UTF-8; whether they are
    welcome is the session's question. Raises SmtpSyntaxError, 501: a malformed path or parameter,
    or a parameter said twice. (§4.1.1.2, §4.1.1.3, RFC 6531)

    Of what comes again the answer is remembered: 1.5 µs a command less.
    """
    read = _recentPath if len(argument) <= _REMEMBERED else _parsePath
    return read(argument, prefix)


def _parsePath(argument: bytes, prefix: bytes) -> tuple[Mailbox, Parameters]:
    if argument[: len(prefix)].upper() != prefix:
        raise SmtpSyntaxError(r.BAD_PATH)
    try:
        text = argument[len(prefix) :].decode("utf-8")
    except UnicodeDecodeError:
        raise SmtpSyntaxError(r.BAD_PATH) from None
    text = text.removeprefix(" ")
    found = scanPath(text)
    if found is None:
        raise SmtpSyntaxError(r.BAD_PATH)
    mailbox, end = found
    rest = text[end:]
    if not rest:
        return mailbox, _NO_PARAMETERS
    if not rest.startswith(" "):
        raise SmtpSyntaxError(r.BAD_PATH)
    return mailbox, MappingProxyType(_parseParameters(rest))


_recentPath = lru_cache(maxsize=1024)(_parsePath)


def _parseParameters(text: str) -> dict[str, str | None]:
    parameters: dict[str, str | None] = {}
    for word in _WORD_RE.findall(text):
        match = _PARAMETER_RE.fullmatch(word)
        if match is None:
            raise SmtpSyntaxError(r.BAD_PARAMETER)
        name = match[1].upper()
        if name in parameters:
            raise SmtpSyntaxError(r.REPEATED_PARAMETER)
        parameters[name] = match[2]
    return parameters
