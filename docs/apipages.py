"""The API pages: the public names of `mailsrv`, and every interface, out of their docstrings."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from textwrap import indent

from zope.interface.interface import InterfaceClass, Method

import mailsrv
from mailsrv import interfaces


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
    """Every interface of `mailsrv.interfaces`, in the order of the file."""
    return "\n".join(
        line
        for value in vars(interfaces).values()
        if isinstance(value, InterfaceClass) and value.__module__ == interfaces.__name__
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


GENERATED: dict[str, Callable[[], str]] = {"names": names, "interfaces": everyInterface}
