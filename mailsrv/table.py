"""Every option, once: its name, what its text may be, and what it is for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mailsrv import kinds


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


_LISTEN = "Where it listens"
_STORE = "Where mail goes"
_WHO = "Who may receive and send"
_TLS = "TLS and logins"
_LIMITS = "Limits"
_FILES = "Configuration"

_PORT_HELP = (
    "SMTP: a port number, or a Twisted server endpoint (tcp:25:interface=0.0.0.0, tcp6:25, "
    "systemd:domain=INET:index=0, haproxy:tcp:25); empty: none"
)
_SUBMISSION_HELP = "mail of users: who sends must log in (RFC 6409)"
_SMTPS_HELP = "as --port, but TLS from the first octet"
_LMTP_HELP = "LMTP for a mail server in front; also unix:PATH"
_DB_HELP = (
    "the database, sqlite:PATH or mysql://USER:PASSWORD@HOST/NAME; SMTPSTORE_DB says it too, "
    "and shows no password in ps"
)
_DOMAIN_HELP = "a local domain; none: every recipient is accepted and stored"
_SMART_HOST_HELP = (
    "where mail for elsewhere goes instead of its MX, smtp://user:password@host:587; "
    "SMTPSTORE_SMART_HOST says it too, and shows no password in ps"
)
_WEBHOOK_HELP = "your application, told of each message by a POST of JSON"
_SENDERS_HELP = "own: who logged in sends only as the login's address and its aliases"
_POLICY_HELP = "a policy of somebody else's by its name, NAME or NAME:key=value:…"
_EXTENSION_HELP = "an ESMTP extension of somebody else's, likewise"
_AUTO_HELP = "a certificate made at the start, signed by nobody, for trying out"
_INSECURE_HELP = "passwords without TLS, where client and listener are this machine"
_BARE_HELP = "a bare CR or LF in a message: reject it, or accept and store it as it came"
_SPOOL_HELP = "where large messages wait for their COMMIT; default: the system's place"
_NAME_HELP = "our own name in replies and Received; default: the machine's"
_DURABLE_HELP = "refuse to start where the database is not set to keep what it commits"
_WORKERS_HELP = "processes that share the ports; for machines with more than two cores"
_HTTP_HELP = "metrics for Prometheus at /metrics, on the same interface"
_CONFIG_HELP = (
    "a TOML file with these names; the command line wins over the environment "
    "(SMTPSTORE_MAX_SIZE=…, lists with commas), it over the file"
)

OPTIONS = (
    Option("port", kinds.port, ("2525",), "P", _LISTEN, _PORT_HELP),
    Option("submission", kinds.port, (), "P", _LISTEN, _SUBMISSION_HELP),
    Option("smtps", kinds.port, (), "P", _LISTEN, _SMTPS_HELP),
    Option("lmtp", kinds.port, (), "P", _LISTEN, _LMTP_HELP),
    Option(
        "interface",
        kinds.interface,
        "127.0.0.1",
        "A",
        _LISTEN,
        "the address a bare port number listens on",
    ),
    Option("http", kinds.port, None, "P", _LISTEN, _HTTP_HELP),
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
    Option("smart-host", kinds.smartHost, None, "URL", _WHO, _SMART_HOST_HELP),
    Option("webhook", kinds.webhook, (), "URL", _WHO, _WEBHOOK_HELP),
    Option("no-vrfy", kinds.flag, False, "", _WHO, "answer VRFY with 252"),
    Option("no-expn", kinds.flag, False, "", _WHO, "answer EXPN with 252"),
    Option("login-senders", kinds.choice("any", "own"), "any", "WORD", _WHO, _SENDERS_HELP),
    Option("policy", kinds.named, (), "NAME", _WHO, _POLICY_HELP),
    Option("extension", kinds.named, (), "NAME", _WHO, _EXTENSION_HELP),
    Option("tls-cert", kinds.words, None, "F", _TLS, "the certificate and its chain, PEM"),
    Option("tls-key", kinds.words, None, "F", _TLS, "its private key, PEM"),
    Option("tls", kinds.choice("auto"), None, "auto", _TLS, _AUTO_HELP),
    Option("require-tls", kinds.flag, False, "", _TLS, "take mail only in TLS"),
    Option("auth-insecure", kinds.flag, False, "", _TLS, _INSECURE_HELP),
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
    Option("workers", kinds.number(1), 1, "N", _FILES, _WORKERS_HELP),
    Option("config", kinds.words, None, "F", _FILES, _CONFIG_HELP),
)
