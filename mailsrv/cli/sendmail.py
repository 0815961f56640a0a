"""smtpstore sendmail: in place of /usr/sbin/sendmail, for PHP, cron and scripts."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from email.utils import formataddr, formatdate, getaddresses, make_msgid
from getopt import GetoptError, gnu_getopt
from getpass import getuser
from typing import BinaryIO

import click

from mailsrv.cli.database import Complaint
from mailsrv.cli.output import safe
from mailsrv.cli.send import parseServer, said, sendOver, withCrlf
from mailsrv.client.envelope import Envelope, SendResult
from mailsrv.kinds import defaultHostname
from mailsrv.remote import Remote
from mailsrv.smtp.address import parseMailbox
from mailsrv.smtp.reply import Reply

SERVER_VARIABLE = "SMTPSTORE_SERVER"
DEFAULT_SERVER = "localhost:25"

# Of sysexits.h
_DATA = os.EX_DATAERR
# What a reply means to the caller: the first whose pattern is found at its beginning.
_STATUS = (
    (r"2", os.EX_OK),
    (r"4", os.EX_TEMPFAIL),
    (r"55[013] 5\.1\.\d|551", os.EX_NOUSER),
    (r"53\d|5\d\d 5\.7\.", os.EX_NOPERM),
    (r"5\d\d 5\.6\.|552", os.EX_DATAERR),
    (r"", os.EX_UNAVAILABLE),
)
# As sendmail's; what is not named in `_options` below is accepted and does nothing.
_SHORT = "A:B:C:F:GIL:N:O:R:TUV:X:b:d:e:f:h:imno:p:q:r:tvx"
_FIELD = re.compile(rb"([!-9;-~]+)[ \t]*:.*?\n(?![ \t])", re.DOTALL)
_RECIPIENTS = ("to", "cc", "bcc")


class _Words(click.Command):
    """A command that reads its command line by itself."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["words"] = list(args)
        return []


@dataclass(slots=True)
class Call:
    """What the command line says."""

    recipients: list[str]
    sender: str | None = None
    name: str = ""
    server: str = ""
    takesFields: bool = False
    isDotText: bool = False


@click.command(cls=_Words, add_help_option=False)
def sendmail(words: list[str]) -> None:
    """Send what comes on STDIN; takes the place of /usr/sbin/sendmail.

    \b
    Examples:
      smtpstore sendmail -t -i < mail.eml
      smtpstore sendmail -f me@a.example you@b.example < mail.eml

    \b
    -t          recipients are those of To, Cc and Bcc too; Bcc is removed
    -i, -oi     a line with a dot alone does not end the message
    -f ADDRESS  the sender (-r too); default: you, on this machine
    -F NAME     the sender's name, where there is no From
    --server S  HOST:PORT, or smtp://user:password@host:587; also in SMTPSTORE_SERVER;
                default: localhost:25

    Other options of sendmail are accepted and do nothing; of -b only -bm is known. What is missing
    of From, Date and Message-ID is added. Exit status as in sysexits.h: 0 taken for all, 64 wrong
    usage, 65 the message, 67 a recipient is not known, 69 refused, 75 try again later, 77 may not.
    """
    if "--help" in words:
        click.echo(click.get_current_context().get_help())
        return
    call = _readCall(words)
    host = defaultHostname()
    sender = _qualified(getuser() if call.sender is None else call.sender, host)
    fields, body = split(readMessage(sys.stdin.buffer, call.isDotText))
    recipients = [_qualified(each, host) for each in call.recipients]
    if call.takesFields:
        recipients += [_qualified(each, host, _DATA) for each in addressesIn(fields)]
        fields = [field for field in fields if _nameOf(field) != "bcc"]
    if not all(recipients) or not recipients:
        raise Complaint("no recipients: give some, or -t and To in the message", os.EX_USAGE)
    content = b"".join([*fields, *missing(fields, sender, call.name, host), b"\r\n", body])
    remote = _server(call.server)
    unique = tuple(dict.fromkeys(recipients))
    sys.exit(_conclude(sendOver(remote, Envelope(sender, unique, content))))


def _readCall(words: Sequence[str]) -> Call:
    try:
        options, recipients = gnu_getopt(words, _SHORT, ["server="])
    except GetoptError as error:
        raise Complaint(str(error), os.EX_USAGE) from None
    call = Call(recipients)
    for option, value in options:
        if option in ("-f", "-r"):
            call.sender = value.strip()
        elif option == "-F":
            call.name = value
        elif option == "--server":
            call.server = value
        elif option == "-t":
            call.takesFields = True
        elif option == "-i" or (option == "-o" and value == "i"):
            call.isDotText = True
        elif option == "-b" and value != "m":
            raise Complaint(f"-b{safe(value)} is not known, only -bm is", os.EX_USAGE)
    return call


def _server(text: str) -> Remote:
    try:
        return parseServer(text or os.environ.get(SERVER_VARIABLE) or DEFAULT_SERVER)
    except Complaint as complaint:
        raise Complaint(complaint.message, os.EX_USAGE) from None


def _qualified(text: str, host: str, status: int = os.EX_USAGE) -> str:
    """An address of this machine where no domain is said; '' for <>."""
    bare = text.strip().removeprefix("<").removesuffix(">")
    if bare and "@" not in bare:
        bare = f"{bare}@{host}"
    if bare and parseMailbox(bare) is None:
        raise Complaint(f"{text!r} is not an address", status)
    return bare


# The message


def readMessage(file: BinaryIO, isDotText: bool) -> bytes:
    """What is to be sent, CRLF at each line's end; without `isDotText` up to a dot alone."""
    lines = []
    for line in file:
        if not isDotText and line.rstrip(b"\r\n") == b".":
            break
        lines.append(line)
    octets = withCrlf(b"".join(lines))
    return octets if octets.endswith(b"\r\n") else octets + b"\r\n"


def split(octets: bytes) -> tuple[list[bytes], bytes]:
    """The header fields, each with its folded lines, and the body.

    A line of mbox in front ("From …") is left out; what does not begin with a field is body.
    """
    if octets.startswith(b"From "):
        octets = octets.partition(b"\n")[2]
    fields, at = [], 0
    while match := _FIELD.match(octets, at):
        fields.append(match[0])
        at = match.end()
    return fields, octets[at:].removeprefix(b"\r\n")


def addressesIn(fields: Iterable[bytes]) -> list[str]:
    """The addresses of To, Cc and Bcc."""
    texts = [
        field.partition(b":")[2].decode("utf-8", "surrogateescape").replace("\r\n", "")
        for field in fields
        if _nameOf(field) in _RECIPIENTS
    ]
    return [address for _, address in getaddresses(texts) if address]


def missing(fields: Iterable[bytes], sender: str, name: str, host: str) -> list[bytes]:
    """The fields every message has, as far as this one lacks them (RFC 5322 §3.6)."""
    there = set(map(_nameOf, fields))
    shown = formataddr((" ".join(name.split()), sender)) if sender.isascii() else sender
    made = {
        "From": shown if sender else f"<MAILER-DAEMON@{host}>",
        "Date": formatdate(localtime=True),
        "Message-ID": make_msgid(domain=host),
    }
    return [
        f"{field}: {value}\r\n".encode()
        for field, value in made.items()
        if field.lower() not in there
    ]


def _nameOf(field: bytes) -> str:
    return field.partition(b":")[0].strip().lower().decode("ascii", "replace")


# What came of it


def _conclude(result: SendResult) -> int:
    """The exit status; what was not taken is said on standard error."""
    failed = [each for each in result.recipients if not each.isDelivered]
    for each in failed:
        click.echo(f"smtpstore: {safe(each.address)}: {said(each.reply)}", err=True)
    statuses = {statusOf(each.reply) for each in failed}
    lasting = sorted(statuses - {os.EX_TEMPFAIL})
    return lasting[0] if lasting else statuses.pop() if statuses else os.EX_OK


def statusOf(reply: Reply) -> int:
    """A reply as an exit status of sysexits.h."""
    text = said(reply)
    return next(status for pattern, status in _STATUS if re.match(pattern, text))
