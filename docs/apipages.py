"""The pages of names: what `mailsrv` gives, every interface, every command, out of the code."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from textwrap import indent

import click
from zope.interface.interface import InterfaceClass, Method

import mailsrv
from mailsrv.cli import main
from mailsrv.interfaces import client, events, queue, server


def names() -> str:
    """What `from mailsrv import …` gives, but the interfaces."""
    lines = []
    for name in mailsrv.__all__:
        value = getattr(mailsrv, name)
        if not isinstance(value, InterfaceClass):
            kind = "autoclass" if inspect.isclass(value) else "autofunction"
            lines += [f".. {kind}:: mailsrv.{name}"]
            lines += ["   :members:", ""] if kind == "autoclass" else [""]
    return "\n".join(lines)


def everyInterface() -> str:
    """Every interface of `mailsrv.interfaces`, in the order of the files."""
    return "\n".join(
        line
        for room in (server, client, queue, events)
        for value in vars(room).values()
        if isinstance(value, InterfaceClass) and value.__module__ == room.__name__
        for line in _interface(value)
    )


def _interface(interface: InterfaceClass) -> Iterator[str]:
    yield f".. py:class:: {interface.__name__}"
    yield ""
    yield from _body(interface.getDoc())
    for name, member in interface.namesAndDescriptions():
        if isinstance(member, Method):
            yield f"   .. py:method:: {name}{member.getSignatureString()}"
        else:
            yield f"   .. py:attribute:: {name}"
        yield ""
        yield from _body(member.getDoc(), "      ")


def _body(doc: str, margin: str = "   ") -> list[str]:
    # A literal ends where its word does: `index`th.
    doc = re.sub(r"`(\w+)`(?=\w)", r"`\1`\\ ", inspect.cleandoc(doc))
    return [*indent(doc, margin).splitlines(), ""]


def commands() -> str:
    """The help of each command of `smtpstore`, as the terminal has it."""
    return "\n".join(_commands(main, "smtpstore"))


def _commands(command: click.Command, name: str) -> Iterator[str]:
    context = click.Context(command, info_name=name, terminal_width=88)
    yield from (name, "-" * len(name), "", "::", "")
    yield from [*indent(command.get_help(context), "    ").splitlines(), ""]
    if isinstance(command, click.Group):
        for each in command.list_commands(context):
            yield from _commands(command.commands[each], f"{name} {each}")


GENERATED: dict[str, Callable[[], str]] = {
    "names": names,
    "interfaces": everyInterface,
    "commands": commands,
}
