"""Examples in the help: written once, with the group, and shown with each command they are of."""

from __future__ import annotations

import re

import click

_EXAMPLE = re.compile(r"^ +(smtpstore .*)$", re.MULTILINE)


def teach(root: click.Group) -> None:
    """Give each command of a group those of the group's examples that call it."""
    for group in root.commands.values():
        if isinstance(group, click.Group):
            found = _EXAMPLE.findall(group.help or "")
            for name, command in group.commands.items():
                call = f"smtpstore {group.name} {name}"
                mine = [line for line in found if f"{line} ".startswith(f"{call} ")]
                if mine and not command.epilog:
                    command.epilog = "\n  ".join(["\b\nExamples:", *mine])
