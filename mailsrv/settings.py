"""What command line, environment and file say about the options, as typed settings."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mailsrv import kinds
from mailsrv.interfaces import Limits
from mailsrv.kinds import Named, Network
from mailsrv.ports import Port, httpOf, portsOf
from mailsrv.relay.webhook import Webhook, readSecrets
from mailsrv.remote import Remote
from mailsrv.table import OPTIONS, Option


class OptionError(Exception):
    """A value that will not do; the text is one line that says what is wrong and what to give."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the server was told, typed."""

    ports: tuple[Port, ...]
    db: str = field(repr=False)  # it may hold a password
    domains: tuple[str, ...]
    hostname: str
    limits: Limits
    maxConnections: int
    maxConnectionsPerClient: int
    allowVrfy: bool
    allowExpn: bool
    dbTimeout: float
    relayClients: tuple[Network, ...]
    smartHost: Remote | None
    webhooks: tuple[Webhook, ...]
    webhookSecrets: tuple[bytes, ...] = field(repr=False)
    spool: str | None
    spoolMemory: int
    spoolDisk: int
    requireDurable: bool
    workers: int
    http: str | None
    ownSenders: bool
    extensions: tuple[Named, ...]
    policies: tuple[Named, ...]
    tlsCert: str | None
    tlsKey: str | None
    tlsAuto: bool
    requireTls: bool
    authInsecure: bool

    @property
    def hasTls(self) -> bool:
        """Whether there is a certificate."""
        return self.tlsAuto or self.tlsCert is not None


_BY_NAME = {option.name: option for option in OPTIONS}

Given = Mapping[str, Sequence[str]]


def readSettings(given: Given, environ: Mapping[str, str]) -> tuple[Settings, dict[str, Any]]:
    """The settings out of what the command line gives, the environment, and the file they name.

    `given`: the texts of each option said, in order. Also returns the typed value of every
    option by its name. Raises OptionError, one line.
    """
    fromEnvironment = _readEnvironment(environ)
    config = [*fromEnvironment.get("config", ()), *given.get("config", ())]
    fromFile = _readFile(config[-1]) if config else {}
    values: dict[str, Any] = {}
    for option in OPTIONS:
        for source, place in (
            (given, f"--{option.name}"),
            (fromEnvironment, option.variable),
            (fromFile, f"{option.name} in {config[-1] if config else ''}"),
        ):
            if option.name in source:
                values[option.name] = _parse(option, source[option.name], place)
                break
        else:
            values[option.name] = option.default
    if values["hostname"] is None:
        values["hostname"] = kinds.defaultHostname()
    return _settings(values, _secrets(values, environ)), values


def _secrets(values: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[bytes, ...]:
    """What webhooks are signed with."""
    try:
        return readSecrets(environ) if values["webhook"] else ()
    except ValueError as error:
        raise OptionError(str(error)) from None


def _parse(option: Option, texts: Sequence[str], place: str) -> Any:
    try:
        values = tuple(option.kind(text) for text in texts)
    except ValueError as error:
        raise OptionError(f"{place}: {error}") from None
    return values if option.isRepeatable else values[-1]


def _readEnvironment(environ: Mapping[str, str]) -> dict[str, list[str]]:
    """What the environment says; an empty variable is one that is not set."""
    found = {}
    for option in OPTIONS:
        text = environ.get(option.variable, "")
        texts = text.split(",") if option.isRepeatable else [text]
        texts = [stripped for text in texts if (stripped := text.strip())]
        if texts:
            found[option.name] = texts
    return found


def _readFile(path: str) -> dict[str, list[str]]:
    try:
        with open(path, "rb") as file:
            table = tomllib.load(file)
    except OSError as error:
        raise OptionError(f"--config {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise OptionError(f"--config {path}: not TOML: {error}") from None
    return {name: _readEntry(name, value, path) for name, value in table.items()}


def _readEntry(name: str, value: object, path: str) -> list[str]:
    option = _BY_NAME.get(name)
    if option is None or name == "config":
        near = difflib.get_close_matches(name.replace("_", "-"), _BY_NAME, 1)
        hint = f", did you mean {near[0]}?" if near else ", see twistd smtpstore --help"
        raise OptionError(f"--config {path}: unknown key {name!r}{hint}")
    values = value if isinstance(value, list) and option.isRepeatable else [value]
    wanted: tuple[type, ...] = (str, int, float) if option.metavar else (bool,)
    for each in values:
        if not isinstance(each, wanted) or (option.metavar and isinstance(each, bool)):
            raise OptionError(f"{name} in {path}: {_wanted(option)} is wanted")
    return [str(each) for each in values]


def _wanted(option: Option) -> str:
    if not option.metavar:
        return "true or false"
    return "a value or a list of them" if option.isRepeatable else "one value"


def _settings(values: Mapping[str, Any], secrets: tuple[bytes, ...]) -> Settings:
    settings = Settings(
        ports=portsOf(values),
        db=values["db"],
        domains=tuple(dict.fromkeys(values["domain"])),
        hostname=values["hostname"],
        limits=Limits(
            maxSize=values["max-size"],
            maxRecipients=values["max-recipients"],
            maxLine=values["max-line"],
            acceptBareNewlines=values["bare-newlines"] == "accept",
            timeout=values["timeout"],
        ),
        maxConnections=values["max-connections"],
        maxConnectionsPerClient=values["max-connections-per-client"],
        allowVrfy=not values["no-vrfy"],
        allowExpn=not values["no-expn"],
        dbTimeout=values["db-timeout"],
        relayClients=values["relay-client"],
        smartHost=values["smart-host"],
        webhooks=values["webhook"],
        webhookSecrets=secrets,
        spool=values["spool"],
        spoolMemory=values["spool-memory"],
        spoolDisk=values["spool-disk"],
        requireDurable=values["require-durable"],
        workers=values["workers"],
        http=httpOf(values),
        ownSenders=values["login-senders"] == "own",
        extensions=values["extension"],
        policies=values["policy"],
        tlsCert=values["tls-cert"],
        tlsKey=values["tls-key"],
        tlsAuto=values["tls"] == "auto",
        requireTls=values["require-tls"],
        authInsecure=values["auth-insecure"],
    )
    for isWrong, complaint in _contradictions(settings):
        if isWrong:
            raise OptionError(complaint)
    return settings


def _contradictions(settings: Settings) -> Iterator[tuple[bool, str]]:
    """What each option alone cannot know: whether it is wrong, and how to mend it."""
    give = "give --tls-cert and --tls-key, or --tls auto for trying out"
    kinds = {port.option for port in settings.ports}
    yield not kinds, "nothing to listen on: give --port, --submission, --smtps or --lmtp"
    yield settings.tlsAuto and settings.tlsCert is not None, "--tls auto and --tls-cert: give one"
    isPair = (settings.tlsCert is None) == (settings.tlsKey is None)
    yield not isPair, "--tls-cert and --tls-key go together: give both"
    yield "smtps" in kinds and not settings.hasTls, f"--smtps needs a certificate: {give}"
    yield settings.requireTls and not settings.hasTls, f"--require-tls needs a certificate: {give}"
    urls = [webhook.url for webhook in settings.webhooks]
    yield len(set(urls)) < len(urls), "--webhook: the same URL twice"
    mayLogIn = settings.hasTls or settings.authInsecure
    yield (
        "submission" in kinds and not mayLogIn,
        f"--submission needs a certificate: {give}; or --auth-insecure on loopback",
    )
