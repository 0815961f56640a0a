"""Where a server listens, and in which manner on each port."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.endpoints import quoteStringArgument

from mailsrv.server.site import Listener

BACKLOG = 1024  # connections the kernel holds for us while the reactor is busy

_KINDS = {
    "port": ("SMTP", Listener()),
    "submission": ("Submission", Listener(isSubmission=True)),
    "smtps": ("SMTPS", Listener(isSecure=True)),
    "lmtp": ("LMTP", Listener(isLmtp=True)),
}
_PROXY = "haproxy:"
# What Twisted would choose otherwise: a backlog of 50, which 100 clients at once wait for a second
# at; and a lock beside the socket, which holds a process id, and in a container ours is the same
# at each start.
_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    "tcp": {"backlog=": str(BACKLOG)},
    "tcp6": {"backlog=": str(BACKLOG)},
    "unix": {"mode=": "660", "lockfile=": "0"},
}


@dataclass(frozen=True, slots=True)
class Port:
    """One place to listen on: the option that names it, its name in the log, Twisted's server
    endpoint string, and what is special about who connects there."""

    option: str
    name: str
    endpoint: str
    listener: Listener


def portsOf(values: Mapping[str, Any]) -> tuple[Port, ...]:
    """The ports out of the values of `--port`, `--submission`, `--smtps`, `--lmtp`."""
    return tuple(_ports(values))


def httpOf(values: Mapping[str, Any]) -> str | None:
    """The server endpoint out of the value of `--http`; None: none."""
    return _endpoint(values["http"], values) if values["http"] else None


def _ports(values: Mapping[str, Any]) -> Iterator[Port]:
    for option, (name, listener) in _KINDS.items():
        for text in filter(None, values[option]):
            endpoint = _endpoint(text.removeprefix(_PROXY), values)
            isProxied = text.startswith(_PROXY)
            yield Port(option, name, endpoint, replace(listener, isProxied=isProxied))


def _endpoint(text: str, values: Mapping[str, Any]) -> str:
    """A port number or an endpoint, with all that is left to us."""
    if ":" not in text:
        text = f"tcp:{text}:interface={quoteStringArgument(values['interface'])}"
    kind = text.partition(":")[0]
    return text + "".join(
        f":{word}{value}"
        for word, value in _DEFAULTS.get(kind, {}).items()
        if f":{word}" not in text
    )
