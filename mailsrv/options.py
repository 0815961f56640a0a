"""What `twistd smtpstore` takes, made from the table of `settings`."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Callable, Sequence
from difflib import get_close_matches

from twisted.python import usage

from mailsrv.settings import OptionError, Settings, readSettings
from mailsrv.table import OPTIONS, Option

_UNKNOWN = re.compile(r"option (-\S+) not recognized")
_WIDTH = 26  # of the names' column in the help


class Options(usage.Options):
    """The command line of `twistd smtpstore`; `settings` is what it came to."""

    synopsis = "[options]"
    settings: Settings

    def __init__(self) -> None:
        self.given: dict[str, list[str]] = {}
        super().__init__()

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """Read the command line; what is wrong ends the process in one line.

        Only an unknown option or a stray word shows the usage first.
        """
        try:
            super().parseOptions(options)
        except usage.UsageError as error:
            isKnown = "requires argument" in str(error) or "must not have" in str(error)
            usageFirst = "" if isKnown else f"{self}\n"
            raise SystemExit(f"{usageFirst}smtpstore: {error}{_hint(str(error))}") from None
        except OptionError as error:
            raise SystemExit(f"smtpstore: {error}") from None

    def parseArgs(self, *args: str) -> None:
        if args:
            raise usage.UsageError(f"unknown word {args[0]!r}: every option begins with --")

    def postOptions(self) -> None:
        self.settings, values = readSettings(self.given, os.environ)
        self.update(values)

    def getUsage(self, width: int | None = None) -> str:
        """The table as text, group by group."""
        width = width or int(os.environ.get("COLUMNS", "80"))
        lines = ["Every message answered 250 is committed in your database.", ""]
        for group in dict.fromkeys(option.group for option in OPTIONS if option.group):
            lines.append(f"{group}:")
            for option in OPTIONS:
                if option.group == group:
                    lines += _helpLines(option, width)
            lines.append("")
        return "\n".join([*lines, "An option with + may be said several times.", ""])


def _hint(error: str) -> str:
    """What was meant where an option is not known, '' where that is not clear."""
    match = _UNKNOWN.fullmatch(error)
    if match is None:
        return ""
    if not match[1].startswith("--"):
        return f"; options of twistd stand before the word: twistd {match[1]} smtpstore"
    names = [f"--{option.name}" for option in OPTIONS if option.group]
    return "".join(f"; is {name} meant?" for name in get_close_matches(match[1], names, 1))


def _helpLines(option: Option, width: int) -> list[str]:
    name = f"  --{option.name}{f'={option.metavar}' if option.metavar else ''}"
    name += " +" if option.isRepeatable else ""
    default = option.default[-1:] if option.isRepeatable else (option.default,)
    text = option.help
    if option.metavar and default and default[0] is not None:
        shown = int(default[0]) if isinstance(default[0], float) else default[0]
        text += f" [default: {shown}]"
    wrapped = textwrap.wrap(text, max(width - _WIDTH - 1, 20), break_on_hyphens=False)
    if len(name) >= _WIDTH - 1:
        return [name, *(" " * _WIDTH + line for line in wrapped)]
    return [name.ljust(_WIDTH) + wrapped[0], *(" " * _WIDTH + line for line in wrapped[1:])]


def _taker(option: Option) -> Callable[..., None]:
    def takeFlag(self: Options) -> None:
        self.given[option.name] = ["true"]

    def take(self: Options, value: str) -> None:
        self.given.setdefault(option.name, []).append(value)

    method = take if option.metavar else takeFlag
    method.__doc__ = option.help
    return method


for _option in OPTIONS:
    setattr(Options, "opt_" + _option.name.replace("-", "_"), _taker(_option))
