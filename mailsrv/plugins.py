"""Extensions and policies of third parties, by twisted.plugin; active only when named."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.plugin import getPlugins
from twisted.python.reflect import namedAny
from zope.interface import implementer

from mailsrv.interfaces import IExtensionPlugin, IPolicy, IPolicyPlugin, IServerExtension
from mailsrv.kinds import Named
from mailsrv.process import StartError


class _Plugin:
    """A name, and what is called with the options as keywords: a class or function, or the dotted
    name of one, imported only when it is asked for."""

    def __init__(self, name: str, factory: str | Callable[..., Any]) -> None:
        self.name = name
        self._factory = factory

    def make(self, options: Mapping[str, str]) -> Any:
        factory = namedAny(self._factory) if isinstance(self._factory, str) else self._factory
        return factory(**{key.replace("-", "_"): value for key, value in options.items()})


@implementer(IExtensionPlugin)
class ExtensionPlugin(_Plugin):
    """Stands in a module of yours in `twisted/plugins`: `--extension NAME` turns it on."""


@implementer(IPolicyPlugin)
class PolicyPlugin(_Plugin):
    """Likewise, for `--policy NAME:key=value`."""


def makeExtensions(wanted: Sequence[Named]) -> list[IServerExtension]:
    """The extensions asked for, in that order; raises StartError."""
    return _make(wanted, IExtensionPlugin, IServerExtension, "--extension")


def makePolicies(wanted: Sequence[Named]) -> list[IPolicy]:
    """The policies asked for, likewise."""
    return _make(wanted, IPolicyPlugin, IPolicy, "--policy")


def _make(wanted: Sequence[Named], kind: Any, result: Any, option: str) -> list[Any]:
    if not wanted:
        return []  # nothing of third parties is imported
    known = {plugin.name: plugin for plugin in getPlugins(kind)}
    made = []
    for each in wanted:
        if each.name not in known:
            there = f"there are: {', '.join(sorted(known))}" if known else "there is none at all"
            raise StartError(f"{option} {each.name}: nobody offers it; {there}")
        try:
            made.append(result(known[each.name].make(each.options)))
        except Exception as error:
            why = " ".join(str(error).split()) or type(error).__name__
            raise StartError(f"{option} {each.name}: {why}") from error
    return made
