"""smtpstore send: a message to a server, over ESMTP."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address
from shutil import copyfileobj
from tempfile import SpooledTemporaryFile
from typing import Any, BinaryIO, cast

import click

from mailsrv.cli.database import TEMPORARY, Complaint
from mailsrv.cli.output import jsonOption, printRows, safe, say
from mailsrv.client.envelope import Envelope, RecipientResult, SendResult
from mailsrv.client.source import PIECE, Source
from mailsrv.extensions.starttls import TlsPolicy
from mailsrv.interfaces import UnexpectedReply
from mailsrv.kinds import defaultHostname
from mailsrv.remote import Remote, hasTls, parseSmartHost, transportTo
from mailsrv.smtp.address import parseMailbox
from mailsrv.smtp.local import CANNOT_CONNECT
from mailsrv.smtp.reply import Reply

PASSWORD_VARIABLE = "SMTPSTORE_PASSWORD"  # noqa: S105
_IN_MEMORY = 2**20  # octets of a message that cannot be read twice
_PORT = 25
_IMPLICIT_PORT = 465

_BARE_LF = re.compile(rb"(?<!\r)\n")


@click.command()
@click.option("--server", metavar="HOST:PORT", required=True, help="The server; port 25 if none.")
@click.option("--from", "sender", metavar="A", required=True, help="The sender; '<>' for none.")
@click.option("--to", "recipients", metavar="A", multiple=True, required=True, help="A recipient.")
@click.option("--user", metavar="NAME", help=f"Log in; the password is in {PASSWORD_VARIABLE}.")
@click.option("--password-stdin", "isOnStdin", is_flag=True, help="Read the password from STDIN.")
@click.option(
    "--tls",
    type=click.Choice(["starttls", "implicit", "none"]),
    help="Required so; else STARTTLS is used where it is offered. Always verified.",
)
@click.argument("file", type=click.File("rb"), default="-")
@jsonOption
def send(
    server: str,
    sender: str,
    recipients: tuple[str, ...],
    user: str | None,
    isOnStdin: bool,
    tls: str | None,
    file: BinaryIO,
    asJson: bool,
) -> None:
    """Send FILE, or what comes on STDIN, and print what the server says for each recipient.

    \b
    Examples:
      smtpstore send --server localhost:2525 --from me@a.example --to you@b.example mail.eml
      smtpstore send --server mail.example.com:587 --user me --from … --to … mail.eml

    LF becomes CRLF. With --user TLS is required. Exit status: 0 the server has taken it for all,
    1 it has refused some, 75 it may take it for the rest another time.
    """
    if isOnStdin and file is sys.stdin.buffer:
        raise click.UsageError("STDIN is the password or the message: give a FILE")
    remote = _withTls(parseServer(server), tls)
    if user is not None:
        remote = _withLogin(remote, user, _password(isOnStdin), tls)
    bare = [_mailbox(each) for each in (sender, *recipients)]
    if "" in bare[1:]:
        raise click.UsageError("--to: <> is no recipient")
    with rewindable(file) as content:
        result = sendOver(remote, Envelope(bare[0], tuple(bare[1:]), sourceFrom(content)))
    _show(result, asJson)
    if all(each.reply is CANNOT_CONNECT for each in result.recipients):
        place = f"{remote.host} port {remote.port}"
        raise Complaint(f"nobody answers at {place}; is a server there? see --server", TEMPORARY)
    codes = {each.reply.code // 100 for each in result.recipients}
    sys.exit(1 if 5 in codes else TEMPORARY if 4 in codes else 0)


def parseServer(text: str) -> Remote:
    """A Remote of HOST, HOST:PORT, [IPv6]:PORT or a URL as --smart-host takes it.

    On this machine TLS is done without, unless there is a login: nobody is in between."""
    try:
        remote = parseSmartHost(text if "://" in text else f"smtp://{text}")
    except ValueError as error:
        wanted = str(error) if "://" in text else "it is not HOST:PORT"
        raise Complaint(f"--server {safe(text) if '@' not in text else '…'}: {wanted}", 2) from None
    if remote.needsTls:
        return remote
    return replace(remote, tls=None if _isHere(remote.host) else TlsPolicy.OFFERED)


def _isHere(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _withTls(remote: Remote, tls: str | None) -> Remote:
    if tls == "starttls":
        return replace(remote, tls=TlsPolicy.VERIFIED)
    if tls == "implicit":
        port = _IMPLICIT_PORT if remote.port == _PORT else remote.port
        return replace(remote, port=port, isSecure=True)
    return replace(remote, tls=None) if tls == "none" else remote


def _withLogin(remote: Remote, user: str, password: str, tls: str | None) -> Remote:
    if tls == "none":
        raise click.UsageError("--user needs TLS")
    if "\0" in user + password:
        raise click.UsageError("--user: NUL in a name or password")
    return replace(remote, login=(user, password), tls=TlsPolicy.VERIFIED)


def _password(isOnStdin: bool) -> str:
    if isOnStdin:
        return sys.stdin.readline().rstrip("\r\n")
    password = os.environ.get(PASSWORD_VARIABLE)
    if not password:
        raise click.UsageError(f"--user needs a password: in {PASSWORD_VARIABLE}, or on STDIN")
    return password


def _mailbox(text: str) -> str:
    """The address as an Envelope wants it."""
    bare = text.removeprefix("<").removesuffix(">")
    if bare and parseMailbox(bare) is None:
        raise click.UsageError(f"{text!r} is not an address")
    return bare


def withCrlf(octets: bytes) -> bytes:
    """A text of this machine as it goes over the wire."""
    return _BARE_LF.sub(b"\r\n", octets)


@contextmanager
def rewindable(file: BinaryIO) -> Iterator[BinaryIO]:
    """The file itself where it can be read twice; else, of a pipe say, a copy that goes at the
    end: in memory up to 1 MiB, beyond that in a temporary file."""
    if file.seekable():
        yield file
        return
    with SpooledTemporaryFile(_IN_MEMORY) as copy:
        copyfileobj(file, copy, PIECE)
        copy.seek(0)
        yield cast(BinaryIO, copy)


def sourceFrom(file: BinaryIO) -> Source:
    """What a file holds from where it stands, CRLF at each line's end, a piece at a time."""
    start = file.tell()

    def pieces() -> Iterator[bytes]:
        file.seek(start)
        last = b""
        while piece := file.read(PIECE):
            # A CR and its LF may stand in two pieces.
            yield withCrlf(last + piece)[len(last) :]
            last = b"\r" if piece.endswith(b"\r") else b""

    return Source(pieces, sum(map(len, pieces())))


def sendOver(remote: Remote, envelope: Envelope) -> SendResult:
    """Send it in a reactor of its own; whatever happens, there is a reply for each recipient."""
    from twisted.internet.task import react

    if not hasTls():
        if remote.needsTls:
            raise Complaint("TLS needs pyOpenSSL: pip install 'smtpstore[tls]'")
        remote = replace(remote, tls=None)
    results: list[SendResult] = []

    async def main(reactor: Any) -> None:
        transport = transportTo(remote, reactor, defaultHostname())
        try:
            await transport.connect()
        except UnexpectedReply as refused:
            answers = [RecipientResult(each, refused.reply) for each in envelope.recipients]
            results.append(SendResult(tuple(answers)))
            return
        results.append(await transport.send(envelope))
        await transport.quit()

    try:
        react(main)
    except SystemExit:
        if not results:
            raise click.Abort from None
    return results[0]


def _show(result: SendResult, asJson: bool) -> None:
    if asJson:
        rows = (
            {
                "address": each.address,
                "code": each.reply.code,
                "enhanced": each.reply.enhanced,
                "text": each.reply.text,
                "new_address": each.newAddress,
            }
            for each in result.recipients
        )
        printRows(rows, [], asJson)
        return
    for each in result.recipients:
        say(f"{safe(each.address)}: {said(each.reply)}")


def said(reply: Reply) -> str:
    """A reply on one line."""
    return safe(" ".join(filter(None, (str(reply.code), reply.enhanced, reply.text))))
