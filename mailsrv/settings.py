"""Every option, once, and what command line, environment and file say about it."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.endpoints import quoteStringArgument

from mailsrv import kinds
from mailsrv.interfaces import Limits
from mailsrv.kinds import Network

BACKLOG = 1024  # connections the kernel holds for us while the reactor is busy


class OptionError(Exception):
    """A value that will not do; the text is one line that says what is wrong and what to give."""


@dataclass(frozen=True, slots=True)
class Option:
    """One row of the table: a name, how its text becomes a value, and what it is for.

    `kind` raises ValueError with a text for people. `metavar` '' makes it a flag. An option
    whose `group` is '' is not shown in the help.
    """

    name: str
    kind: Callable[[str], Any]
    default: Any
    metavar: str
    group: str
    help: str

    @property
    def isRepeatable(self) -> bool:
        """Whether it may be said several times, and its value is a tuple."""
        return isinstance(self.default, tuple)

    @property
    def variable(self) -> str:
        """The environment variable of the same name."""
        return "SMTPSTORE_" + self.name.upper().replace("-", "_")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the server was told, typed; `endpoints` are Twisted's server endpoint strings."""

    endpoints: tuple[str, ...]
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
    spool: str | None
    spoolMemory: int
    spoolDisk: int
    requireDurable: bool


_LISTEN = "Where it listens"
_STORE = "Where mail goes"
_WHO = "Who may receive and send"
_LIMITS = "Limits"
_FILES = "Configuration"

_PORT_HELP = (
    "SMTP: a port number, or a Twisted server endpoint (tcp:25:interface=0.0.0.0, tcp6:25, "
    "systemd:domain=INET:index=0, haproxy:tcp:25)"
)
_DB_HELP = "the database, sqlite:PATH; SMTPSTORE_DB says it too, and shows no password in ps"
_DOMAIN_HELP = "a local domain; none: every recipient is accepted and stored"
_BARE_HELP = "a bare CR or LF in a message: reject it, or accept and store it as it came"
_SPOOL_HELP = "where large messages wait for their COMMIT; default: the system's place"
_NAME_HELP = "our own name in replies and Received; default: the machine's"
_DURABLE_HELP = "refuse to start where the database is not set to keep what it commits"
_CONFIG_HELP = (
    "a TOML file with these names; the command line wins over the environment "
    "(SMTPSTORE_MAX_SIZE=…, lists with commas), it over the file"
)

OPTIONS = (
    Option("port", kinds.port, ("2525",), "P", _LISTEN, _PORT_HELP),
    Option(
        "interface",
        kinds.interface,
        "127.0.0.1",
        "A",
        _LISTEN,
        "the address a bare port number listens on",
    ),
    Option("hostname", kinds.domain, None, "H", _LISTEN, _NAME_HELP),
    Option("db", kinds.url, "sqlite:smtpstore.db", "URL", _STORE, _DB_HELP),
    Option(
        "db-timeout",
        kinds.seconds,
        30.0,
        "SECONDS",
        _STORE,
        "how long a command waits for the database before it is answered 421",
    ),
    Option("require-durable", kinds.flag, False, "", _STORE, _DURABLE_HELP),
    Option("spool", kinds.words, None, "DIR", _STORE, _SPOOL_HELP),
    Option(
        "spool-memory",
        kinds.number(0),
        268_435_456,
        "N",
        _STORE,
        "octets of messages held in memory, in all",
    ),
    Option(
        "spool-disk",
        kinds.number(0),
        4_294_967_296,
        "N",
        _STORE,
        "octets of messages held in files, in all",
    ),
    Option("domain", kinds.domain, (), "D", _WHO, _DOMAIN_HELP),
    Option("relay-client", kinds.network, (), "CIDR", _WHO, "a network or address that may relay"),
    Option("no-vrfy", kinds.flag, False, "", _WHO, "answer VRFY with 252"),
    Option("no-expn", kinds.flag, False, "", _WHO, "answer EXPN with 252"),
    Option("max-size", kinds.number(1), 52_428_800, "N", _LIMITS, "octets of a message"),
    Option("max-recipients", kinds.number(1), 100, "N", _LIMITS, "recipients of a message"),
    Option(
        "max-line",
        kinds.number(0),
        1000,
        "N",
        _LIMITS,
        "octets of a line of a message; 0: no limit",
    ),
    Option(
        "bare-newlines", kinds.choice("reject", "accept"), "reject", "WORD", _LIMITS, _BARE_HELP
    ),
    Option("max-connections", kinds.number(1), 1000, "N", _LIMITS, "connections in all"),
    Option(
        "max-connections-per-client",
        kinds.number(0),
        0,
        "N",
        _LIMITS,
        "of one address; 0: no limit",
    ),
    Option("timeout", kinds.seconds, 600.0, "SECONDS", _LIMITS, "how long a client may be idle"),
    Option("config", kinds.words, None, "F", _FILES, _CONFIG_HELP),
    # Not built yet: accepted where they turn it off.
    Option("submission", kinds.notBuilt(), (), "P", "", ""),
    Option("smtps", kinds.notBuilt(), (), "P", "", ""),
    Option("lmtp", kinds.notBuilt(), (), "P", "", ""),
    Option("login-senders", kinds.notBuilt("any"), "any", "WORD", "", ""),
    Option("tls-cert", kinds.notBuilt(), None, "F", "", ""),
    Option("tls-key", kinds.notBuilt(), None, "F", "", ""),
    Option("tls", kinds.notBuilt(), None, "WORD", "", ""),
    Option("require-tls", kinds.flagNotBuilt, False, "", "", ""),
    Option("workers", kinds.notBuilt("1"), "1", "N", "", ""),
    Option("http", kinds.notBuilt("", "8025"), "8025", "P", "", ""),
    Option("smart-host", kinds.notBuilt(), None, "URL", "", ""),
    Option("extension", kinds.notBuilt(), (), "NAME", "", ""),
    Option("policy", kinds.notBuilt(), (), "NAME", "", ""),
    Option("webhook", kinds.notBuilt(), (), "URL", "", ""),
    Option("auth-insecure", kinds.flagNotBuilt, False, "", "", ""),
)
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
    return _settings(values), values


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


def _settings(values: Mapping[str, Any]) -> Settings:
    interface = quoteStringArgument(values["interface"])
    return Settings(
        endpoints=tuple(
            port if ":" in port else f"tcp:{port}:interface={interface}:backlog={BACKLOG}"
            for port in values["port"]
        ),
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
        spool=values["spool"],
        spoolMemory=values["spool-memory"],
        spoolDisk=values["spool-disk"],
        requireDurable=values["require-durable"],
    )
