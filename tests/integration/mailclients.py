"""Programs that send mail, as their users would run them: support for the tests."""

from __future__ import annotations

import asyncio
import json
import os
import re
import smtplib
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from integration.privatepostfix import PrivatePostfix
from integration.realserver import LIMIT
from integration.test_tls import trusting

USER, PASSWORD = "bob@example.com", "secret"
TLS = ("plain", "starttls", "tls")
AUTH = ("", "PLAIN", "LOGIN")
_LINES = {
    "ascii": ("A line.",),
    "utf8": ("Grüße, δοκιμή, 試験 🙂",),
    "dots": (".", "..", "...", ".a", "..a", "a.", "", ".", ". ", "", "x", ".", "end"),
    "10 MB": ("0123456789." * 6 + " .",) * 150_000,
}
CONTENTS = tuple(_LINES)


@dataclass(frozen=True)
class Case:
    """What is to be delivered, and how."""

    tls: str
    auth: str
    content: str

    def __str__(self) -> str:
        return f"{self.tls}-{self.auth or 'none'}-{self.content}"

    @property
    def body(self) -> bytes:
        return "".join(f"{line}\r\n" for line in _LINES[self.content]).encode()


@dataclass(frozen=True)
class Place:
    """A running server, and a directory to work in."""

    smtp: int
    smtps: int
    directory: Path

    def port(self, case: Case) -> int:
        return self.smtps if case.tls == "tls" else self.smtp


@dataclass
class MailClient:
    """One program: `command` makes its command line, or `send` does it all.

    `cannot`: what this program does not do. `isUtf8`: it sends addresses outside ASCII (SMTPUTF8).
    `isWhole`: the header arrives as it was given; else the program makes its own. `saysHelo`: it
    does where it does not log in.
    """

    name: str
    program: str
    version: Sequence[str] = ()
    command: Callable[[Case, Place, str, str, Path], list[str]] | None = None
    cannot: Callable[[Case], bool] = field(default=lambda case: False)
    isUtf8: bool = True
    isWhole: bool = True
    saysHelo: bool = False
    env: dict[str, str] = field(default_factory=dict)

    def addresses(self, case: Case, number: int) -> tuple[str, str]:
        local = "δοκιμή" if case.content == "utf8" and self.isUtf8 else "rcpt"
        return f"{local}@example.com", f"{local}{number}@example.org"

    def deliver(self, case: Case, place: Place, sender: str, recipient: str) -> None:
        """Deliver the case; raises what tells why not."""
        head = f"From: {sender}\r\nTo: {recipient}\r\nSubject: {case}\r\n"
        head += "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
        head += "Content-Transfer-Encoding: 8bit\r\n\r\n"
        message = place.directory / "message"
        message.write_bytes((head.encode() + case.body).replace(b"\r\n", self.newline))
        self.send(case, place, sender, recipient, message)

    newline = b"\r\n"

    def send(self, case: Case, place: Place, sender: str, recipient: str, message: Path) -> None:
        assert self.command is not None
        with message.open("rb") as stdin:
            done = subprocess.run(
                self.command(case, place, sender, recipient, message),
                stdin=stdin,
                capture_output=True,
                timeout=4 * LIMIT,
                cwd=place.directory,
                env={**os.environ, "LC_ALL": "C.UTF-8", "HOME": str(place.directory), **self.env},
            )
        assert done.returncode == 0, (done.stdout[-2000:], done.stderr[-2000:])

    def shownVersion(self) -> str:
        command = [word.replace("{beside}", BESIDE) for word in self.version]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        found = re.search(r"\d+(?:\.\d+)+(?:p\d)?", done.stdout + done.stderr)
        return found[0] if found else "?"


class LfClient(MailClient):
    """A program of UNIX: its lines end at LF."""

    newline = b"\n"


class Smtplib(MailClient):
    def shownVersion(self) -> str:
        import platform

        return f"Python {platform.python_version()}"

    def send(self, case: Case, place: Place, sender: str, recipient: str, message: Path) -> None:
        port = place.port(case)
        if case.tls == "tls":
            client: smtplib.SMTP = smtplib.SMTP_SSL(
                "127.0.0.1", port, context=trusting(), timeout=LIMIT
            )
        else:
            client = smtplib.SMTP("127.0.0.1", port, timeout=LIMIT)
        with client:
            if case.tls == "starttls":
                client.starttls(context=trusting())
            client.ehlo()
            if case.auth:
                client.user, client.password = USER, PASSWORD
                client.auth(case.auth, getattr(client, f"auth_{case.auth.lower()}"))
            options = ["SMTPUTF8", "BODY=8BITMIME"] if case.content == "utf8" else []
            client.sendmail(sender, recipient, message.read_bytes(), options)


class Aiosmtplib(MailClient):
    def shownVersion(self) -> str:
        from importlib.metadata import version

        return version("aiosmtplib")

    def send(self, case: Case, place: Place, sender: str, recipient: str, message: Path) -> None:
        aiosmtplib = pytest.importorskip("aiosmtplib")

        async def run() -> None:
            client = aiosmtplib.SMTP(
                hostname="127.0.0.1",
                port=place.port(case),
                use_tls=case.tls == "tls",
                start_tls=case.tls == "starttls",
                tls_context=trusting() if case.tls != "plain" else None,
                timeout=LIMIT,
            )
            async with client:
                await client.ehlo()
                if case.auth:
                    await getattr(client, f"auth_{case.auth.lower()}")(USER, PASSWORD)
                options = ["SMTPUTF8", "BODY=8BITMIME"] if case.content == "utf8" else []
                await client.sendmail(
                    sender, [recipient], message.read_bytes(), mail_options=options
                )

        asyncio.run(run())


def _swaks(case: Case, place: Place, sender: str, recipient: str, message: Path) -> list[str]:
    message.write_bytes(message.read_bytes().removesuffix(b"\r\n"))  # it adds one itself
    tls = {"plain": [], "starttls": ["--tls"], "tls": ["--tls-on-connect"]}[case.tls]
    auth = ["--auth", case.auth, "--auth-user", USER, "--auth-password", PASSWORD]
    return [
        *("swaks", "--server", f"127.0.0.1:{place.port(case)}", "--from", sender),
        *("--to", recipient, "--data", f"@{message}", "--suppress-data", *tls),
        *(auth if case.auth else []),
    ]


def _curl(case: Case, place: Place, sender: str, recipient: str, message: Path) -> list[str]:
    scheme = "smtps" if case.tls == "tls" else "smtp"
    auth = ["--login-options", f"AUTH={case.auth}", "--user", f"{USER}:{PASSWORD}"]
    return [
        *("curl", "--silent", "--show-error", "--insecure", "--mail-from", sender),
        *("--mail-rcpt", recipient, "--upload-file", str(message)),
        *(["--ssl-reqd"] if case.tls == "starttls" else []),
        *(auth if case.auth else []),
        f"{scheme}://127.0.0.1:{place.port(case)}/client.example",
    ]


def _msmtp(case: Case, place: Place, sender: str, recipient: str, message: Path) -> list[str]:
    auth = [f"--auth={case.auth.lower()}", f"--user={USER}", f"--passwordeval=echo {PASSWORD}"]
    return [
        *("msmtp", "--host=127.0.0.1", f"--port={place.port(case)}", f"--from={sender}"),
        *(f"--tls={'off' if case.tls == 'plain' else 'on'}", "--tls-certcheck=off"),
        f"--tls-starttls={'on' if case.tls == 'starttls' else 'off'}",
        *(auth if case.auth else ["--auth=off"]),
        recipient,
    ]


def _snail(case: Case, place: Place, sender: str, recipient: str, message: Path) -> list[str]:
    """It reads a body and makes the message itself."""
    message.write_bytes(case.body.replace(b"\r\n", b"\n"))
    login = f"{USER.replace('@', '%40')}:{PASSWORD}@" if case.auth else ""
    scheme = "smtps" if case.tls == "tls" else "smtp"
    settings = [
        *("v15-compat", f"mta={scheme}://{login}127.0.0.1:{place.port(case)}"),
        *("tls-verify=ignore", f"smtp-auth={case.auth.lower() or 'none'}"),
        *("mime-encoding=8bit", "ttycharset=utf-8", "sendcharsets=utf-8", "hostname=example.com"),
        *(["smtp-use-starttls"] if case.tls == "starttls" else []),
    ]
    return [
        *("s-nail", "-:/", *(word for each in settings for word in ("-S", each))),
        *("-r", sender, "-s", str(case), recipient),
    ]


_NODE_VERSION = "require('nodemailer/package.json').version"
_NODE = """
const [options, envelope, path] = JSON.parse(process.argv[1]);
const transport = require("nodemailer").createTransport(options);
transport.sendMail({envelope, raw: {path}}).then(() => process.exit(0),
    error => { console.error(error); process.exit(1); });
"""


def _nodemailer(case: Case, place: Place, sender: str, recipient: str, message: Path) -> list[str]:
    auth = {"user": USER, "pass": PASSWORD}
    options = {
        "host": "127.0.0.1",
        "port": place.port(case),
        "secure": case.tls == "tls",
        "requireTLS": case.tls == "starttls",
        "ignoreTLS": case.tls == "plain",
        "tls": {"rejectUnauthorized": False},
        **({"auth": auth, "authMethod": case.auth} if case.auth else {}),
    }
    envelope = {"from": sender, "to": [recipient]}
    return ["node", "-e", _NODE, json.dumps([options, envelope, str(message)])]


def _opensmtpd(case: Case, place: Place, sender: str, recipient: str, message: Path) -> list[str]:
    scheme = {"plain": "smtp+notls", "starttls": "smtp+tls", "tls": "smtps"}[case.tls]
    login = f"{USER}:{PASSWORD}@" if case.auth else ""
    server = f"{scheme}://{login}127.0.0.1:{place.port(case)}"
    return [BESIDE + "/usr/bin/smtp", "-C", "-F", sender, "-s", server, recipient]


BESIDE = os.environ.get("SMTPSTORE_TEST_BESIDE", "/nonexistent")

_EXIM = """
exim_path = {program}
spool_directory = {directory}/spool
log_file_path = {directory}/%slog
primary_hostname = client.example.com
keep_environment =
smtputf8_advertise_hosts = *
message_size_limit = 60M
begin routers
out:
  driver = manualroute
  domains = *
  transport = out
  route_list = * 127.0.0.1 byname
  self = send
begin transports
out:
  driver = smtp
  port = {port}
  {tls}
  tls_verify_hosts =
  tls_try_verify_hosts =
  {auth}
begin authenticators
{authenticator}
"""
_AUTHENTICATOR = """login:
  driver = plaintext
  public_name = {name}
  client_send = {send}
"""
# Its user stands in a passwd of its own: nothing of the system is changed.
_AS_EXIM = (
    'mount --bind "$1/passwd" /etc/passwd && mount --bind "$1/group" /etc/group && shift && '
    'exec "$@"'
)


def _exim(case: Case, place: Place, sender: str, recipient: str, message: Path) -> list[str]:
    directory, program = place.directory / "exim", BESIDE + "/usr/sbin/exim4"
    directory.mkdir(exist_ok=True)
    os.chown(directory, 65533, 65533)
    for name, line in (
        ("passwd", "Debian-exim:x:65533:65533::/nonexistent:/usr/sbin/nologin\n"),
        ("group", "Debian-exim:x:65533:\n"),
    ):
        (directory / name).write_text(Path(f"/etc/{name}").read_text() + line)
    send = f"^{USER}^{PASSWORD}" if case.auth == "PLAIN" else f": {USER} : {PASSWORD}"
    tls = {"plain": "hosts_avoid_tls = *", "starttls": "hosts_require_tls = *"}
    config = directory / "exim.conf"
    config.write_text(
        _EXIM.format(
            program=program,
            directory=directory,
            port=place.port(case),
            tls=tls.get(case.tls, "protocol = smtps"),
            auth="hosts_require_auth = *" if case.auth else "",
            authenticator=_AUTHENTICATOR.format(name=case.auth, send=send) if case.auth else "",
        )
    )
    exim = [program, "-C", str(config), "-odi", "-i", "-f", sender, recipient]
    return ["unshare", "--mount", "sh", "-c", _AS_EXIM, "sh", str(directory), *exim]


class Postfix(MailClient):
    """A Postfix of its own, told per domain how to go on."""

    _running: PrivatePostfix | None = None

    def addresses(self, case: Case, number: int) -> tuple[str, str]:
        sender, recipient = super().addresses(case, number)
        return sender, f"{recipient.partition('@')[0]}@{case.tls}-{case.auth or 'none'}.example.org"

    def send(self, case: Case, place: Place, sender: str, recipient: str, message: Path) -> None:
        if self._running is None:
            self._running = PrivatePostfix(**_postfix(place))
        options = ["SMTPUTF8"] if not recipient.isascii() else []
        with smtplib.SMTP("127.0.0.1", self._running.port, timeout=LIMIT) as client:
            client.ehlo()
            client.sendmail(sender, recipient, message.read_bytes(), options)
        self._running.waitFor(f"to=<{recipient}>.*status=sent")

    def stop(self) -> None:
        if self._running is not None:
            self._running.stop()
            self._running = None


def _postfix(place: Place) -> dict[str, object]:
    services, routes = [], []
    for tls in TLS:
        for auth in AUTH:
            case = Case(tls, auth, "ascii")
            name = f"{tls}-{auth or 'none'}"
            services.append(
                f"{name} unix - - n - - smtp\n"
                f"  -o smtp_tls_security_level={'none' if tls == 'plain' else 'encrypt'}\n"
                f"  -o smtp_tls_wrappermode={'yes' if tls == 'tls' else 'no'}\n"
                f"  -o smtp_sasl_auth_enable={'yes' if auth else 'no'}\n"
                f"  -o smtp_sasl_mechanism_filter={auth.lower()}\n"
            )
            routes.append(f"{name}.example.org {name}:[127.0.0.1]:{place.port(case)}\n")
    passwords = "".join(
        f"[127.0.0.1]:{port} {USER}:{PASSWORD}\n" for port in (place.smtp, place.smtps)
    )
    return {
        "main": (
            "transport_maps = texthash:{directory}/transport\n"
            "smtp_sasl_password_maps = texthash:{directory}/passwords\n"
            "smtp_sasl_security_options =\n"
            "message_size_limit = 60000000\n"
        ),
        "services": "".join(services),
        "files": {"transport": "".join(routes), "passwords": passwords},
    }


def _onlyPlainInTls(case: Case) -> bool:
    return case.auth == "LOGIN" or (case.tls == "plain" and bool(case.auth))


CLIENTS = [
    Smtplib("smtplib", "python3"),
    Aiosmtplib("aiosmtplib", "python3"),
    MailClient("swaks", "swaks", ("swaks", "--version"), _swaks, isUtf8=False),
    MailClient("curl", "curl", ("curl", "--version"), _curl),
    LfClient("msmtp", "msmtp", ("msmtp", "--version"), _msmtp, isUtf8=False),
    LfClient(
        *("s-nail", "s-nail", ("s-nail", "--version"), _snail),
        isUtf8=False,
        isWhole=False,
        saysHelo=True,
    ),
    MailClient("nodemailer", "node", ("node", "-p", _NODE_VERSION), _nodemailer),
    Postfix("Postfix", "postfix", ("postconf", "mail_version"), isWhole=False),
    LfClient(
        "Exim",
        "exim4",
        ("sh", "-c", "dpkg-deb -f {beside}/../exim4*.deb Version"),
        _exim,
        isWhole=False,
    ),
    LfClient(
        *(
            "OpenSMTPD",
            "smtp",
            ("sh", "-c", "dpkg-deb -f {beside}/../opensmtpd*.deb Version"),
            _opensmtpd,
        ),
        cannot=_onlyPlainInTls,
        isUtf8=False,
    ),
]
