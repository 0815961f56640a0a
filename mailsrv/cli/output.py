"""What a command prints: aligned columns for people, JSON for programs."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeVar

import click

from mailsrv.store.queries import parseTime

_F = TypeVar("_F", bound=Callable[..., Any])
_CHUNK = 200  # rows whose columns are aligned with one another

# Mail must not drive the terminal it is read on: controls, line separators, direction overrides.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_UNSAFE_IN_TEXT = re.compile(_UNSAFE.pattern.replace(r"\x00-\x1f", r"\x00-\x08\x0b-\x1f"))

jsonOption = click.option("--json", "asJson", is_flag=True, help="Print JSON, for programs.")


def say(text: str) -> None:
    """Print a line; what the terminal's encoding lacks is escaped."""
    encoding = sys.stdout.encoding or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def safe(value: object) -> str:
    """A value on one line, controls escaped."""
    return "" if value is None else _UNSAFE.sub(_escape, str(value))


def safeText(text: str) -> str:
    """A text of several lines, controls escaped."""
    return _UNSAFE_IN_TEXT.sub(_escape, text.replace("\r\n", "\n"))


def isoTime(text: str | None) -> str | None:
    """A time out of the tables in ISO 8601 with Z; as it is where it is none."""
    try:
        return text and parseTime(text).isoformat().replace("+00:00", "Z")
    except ValueError:
        return text


def printRows(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], asJson: bool) -> None:
    """Print rows one by one as they come: whole as JSON, or these columns with a heading."""
    if asJson:
        _printJson(rows)
        return
    texts = ([safe(row[column]) for column in columns] for row in rows)
    widths = [0] * len(columns)
    heading = [list(columns)]
    while chunk := list(islice(texts, _CHUNK)):
        lines, heading = heading + chunk, []
        widths = [
            max(width, *map(len, cells))
            for width, cells in zip(widths, zip(*lines, strict=True), strict=True)
        ]
        for line in lines:
            padded = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            say("  ".join(padded).rstrip())


def _printJson(rows: Iterable[Mapping[str, Any]]) -> None:
    before = "["
    for row in rows:
        click.echo(f"{before}\n{json.dumps(row, default=str)}", nl=False)
        before = ","
    click.echo("[]" if before == "[" else "\n]")


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
