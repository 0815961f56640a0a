"""What `mailsrv` names is there, typed, documented, and lean."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mailsrv

SOURCE = Path(mailsrv.__file__).read_text("utf-8")
NOT_NEEDED = ("options", "service", "settings", "workers", "cli", "web", "testing")


def typed() -> dict[str, str]:
    """The names under TYPE_CHECKING, and the module each is of."""
    [block] = [
        node
        for node in ast.parse(SOURCE).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    ]
    found = {}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom)
        for alias in statement.names:
            assert alias.asname is None
            found[alias.name] = str(statement.module).removeprefix("mailsrv.")
    return found


def run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(Path(mailsrv.__file__).parents[1])},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_type_checkers_people_and_programs_see_the_same_names() -> None:
    assert mailsrv.__all__ == sorted(mailsrv.__all__)
    assert set(mailsrv.__all__) == set(mailsrv._PLACES) == set(typed())
    assert typed() == mailsrv._PLACES


@pytest.mark.parametrize("name", mailsrv.__all__)
def test_every_name_is_there_and_says_what_it_is(name: str) -> None:
    found = getattr(mailsrv, name)
    assert found.__name__ == name
    assert found.__module__ == f"mailsrv.{mailsrv._PLACES[name]}"
    assert (found.__doc__ or "").strip()


def test_a_name_that_is_not_there_is_said_so_as_ever() -> None:
    with pytest.raises(AttributeError, match="module 'mailsrv' has no attribute 'Nonsense'"):
        mailsrv.Nonsense  # noqa: B018
    with pytest.raises(ImportError, match="cannot import name 'Nonsense'"):
        from mailsrv import Nonsense  # noqa: F401


def test_the_package_alone_costs_nothing() -> None:
    out = run("import sys; a = set(sys.modules); import mailsrv; print(*set(sys.modules) - a)")
    assert not [name for name in out.split() if name.startswith(("twisted", "zope", "mailsrv."))]


def test_each_is_usable_without_the_plugin_the_command_line_and_the_web() -> None:
    """Nor does any of them install a reactor, or need a driver that is an extra."""
    out = run(
        "import sys, mailsrv\n"
        "for name in mailsrv.__all__:\n"
        "    before = set(sys.modules)\n"
        "    getattr(mailsrv, name)\n"
        "    print(name, *set(sys.modules) - before)\n"
    )
    for line in out.splitlines():
        name, *modules = line.split()
        unwanted = {f"mailsrv.{room}" for room in NOT_NEEDED}
        unwanted |= {"click", "pymysql", "prometheus_client", "treq", "twisted.internet.reactor"}
        assert not unwanted.intersection(modules), name
