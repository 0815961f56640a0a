"""Who may import whom, read out of every module: the rules that keep the rooms apart."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mailsrv

ROOT = Path(mailsrv.__file__).parent
MODULES = sorted(path for path in ROOT.rglob("*.py") if "schema" not in path.parts)

STANDARD = "the standard library"
# For each room: which rooms it may import beside itself. None: all of them.
RULES: dict[str, set[str] | None] = {
    "smtp": {STANDARD},
    "extract": {STANDARD, "smtp"},
    "interfaces": {"smtp"},
    "server": {"smtp", "interfaces", "extract"},
    "client": {"smtp", "interfaces", "extract"},
    "relay": {"smtp", "interfaces", "extract", "client"},
    "web": {"smtp", "interfaces", "extract"},
    "store": {"smtp", "interfaces", "extract"},
    "observers": {"smtp", "interfaces", "extract"},
    "logtext": set(),
    "extensions": {"smtp", "interfaces"},
    "policies": {"smtp", "interfaces"},
    "formats": {STANDARD, "smtp"},
    "adapters": {"smtp", "interfaces"},
    "pytestfixture": {"testing"},
    "testing": {"smtp", "interfaces", "extract", "server", "store", "extensions", "policies"},
    # The rooms that know everybody: the way in.
    "announce": None,
    "check": None,
    "extractor": None,
    "cli": None,
    "kinds": None,
    "listening": None,
    "monitoring": None,
    "options": None,
    "parent": None,
    "plugins": None,
    "ports": None,
    "process": None,
    "remote": None,
    "rules": None,
    "sending": None,
    "service": None,
    "settings": None,
    "table": None,
    "workers": None,
    "__init__": None,
}
TRANSPORTS = {"server/protocol.py", "server/wire.py", "client/writer.py"}
TABLES = (
    "users",
    "messages",
    "message_parts",
    "recipients",
    "mailing_groups",
    "mailing_group_members",
    "aliases",
    "queue",
    "schema_version",
)
_STATEMENT = re.compile(
    rf"\b(?:FROM|INTO|UPDATE|JOIN|TABLE|INDEX)\s+(?:\w+\s+ON\s+)?(?:{'|'.join(TABLES)})\b"
)


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def roomOf(path: Path) -> str:
    return path.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(tree: ast.AST, path: Path) -> Iterator[tuple[str, ast.stmt]]:
    """Every module that is imported, wherever it stands, with its statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name(path)}: imports are written in full"
            # `from mailsrv import kinds` names a room, `from mailsrv.smtp import reply` not.
            for alias in node.names:
                yield f"{node.module}.{alias.name}", node


def roomsImported(path: Path, source: str) -> Iterator[tuple[str, int]]:
    for module, node in imports(ast.parse(source), path):
        parts = module.split(".")
        if parts[0] == "mailsrv":
            known = parts[1] if len(parts) > 1 else "__init__"
            yield (known if (ROOT / known).exists() or known in RULES else "__init__"), node.lineno
        elif parts[0] not in sys.stdlib_module_names:
            yield parts[0], node.lineno


def breaches(path: Path, source: str) -> list[str]:
    room = roomOf(path)
    found = []
    for imported, line in roomsImported(path, source):
        if imported != room and not mayImport(room, imported):
            found.append(f"{name(path)}:{line}: {room} may not import {imported}")
    return found


def mayImport(room: str, imported: str) -> bool:
    allowed = RULES[room]
    if allowed is None:
        return True
    return imported in allowed if imported in RULES else STANDARD not in allowed


def loadsReactor(source: str) -> bool:
    """Whether importing the module would install a reactor."""
    return any(
        "twisted.internet.reactor" in module
        for statement in topLevel(ast.parse(source).body)
        for module, _ in imports(statement, ROOT)
    )


def topLevel(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """What runs at import: everything outside functions, TYPE_CHECKING left out."""
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        inner = [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)]
        if inner:
            yield from topLevel(inner)
        else:
            yield node


def tablesNamed(source: str) -> list[str]:
    """Texts that are SQL over one of our tables."""
    return [
        node.value
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and _STATEMENT.search(node.value)
    ]


def seesTransport(source: str) -> bool:
    return any(
        isinstance(node, ast.Attribute) and node.attr == "transport"
        for node in ast.walk(ast.parse(source))
    )


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_imports_only_what_its_room_may(path: Path) -> None:
    assert breaches(path, path.read_text("utf-8")) == []


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_no_module_installs_a_reactor_by_being_imported(path: Path) -> None:
    assert not loadsReactor(path.read_text("utf-8"))


@pytest.mark.parametrize("path", [p for p in MODULES if roomOf(p) != "store"], ids=name)
def test_nothing_outside_the_store_names_a_table(path: Path) -> None:
    assert tablesNamed(path.read_text("utf-8")) == []


@pytest.mark.parametrize(
    "path",
    [p for p in MODULES if name(p) not in TRANSPORTS and roomOf(p) != "web"],
    ids=name,
)
def test_nobody_but_the_protocols_sees_a_transport(path: Path) -> None:
    assert not seesTransport(path.read_text("utf-8"))


# The rules above find what they look for


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("smtp/address.py", "import zope.interface"),
        ("smtp/address.py", "def f():\n    from twisted.internet import defer"),
        ("extract.py", "from mailsrv.interfaces import Limits"),
        ("server/session.py", "from mailsrv.store import pool"),
        ("server/session.py", "import mailsrv.store.pool"),
        ("server/session.py", "from mailsrv import store"),
        ("store/pool.py", "from mailsrv.settings import Settings"),
        ("policies/relay.py", "from mailsrv.server.session import Session"),
    ],
)
def test_a_forbidden_import_is_found(place: str, source: str) -> None:
    assert breaches(ROOT / place, source) != []


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("server/session.py", "from mailsrv.smtp import reply\nfrom mailsrv.server import state"),
        ("server/session.py", "from twisted.internet import defer\nimport re"),
        ("service.py", "from mailsrv import settings\nfrom mailsrv.store import pool"),
    ],
)
def test_an_allowed_import_is_not(place: str, source: str) -> None:
    assert breaches(ROOT / place, source) == []


def test_a_reactor_at_the_top_is_found_and_one_in_a_function_is_not() -> None:
    assert loadsReactor("from twisted.internet import defer, reactor")
    assert loadsReactor("import twisted.internet.reactor")
    assert loadsReactor("class A:\n    if 1:\n        from twisted.internet import reactor")
    assert not loadsReactor("def f():\n    from twisted.internet import reactor")
    assert not loadsReactor(
        "if TYPE_CHECKING:\n    from twisted.internet import reactor\nimport os"
    )


def test_sql_and_transports_are_found() -> None:
    assert tablesNamed("txn.execute('SELECT id FROM messages')") == ["SELECT id FROM messages"]
    assert tablesNamed("x = 'mail from users'") == []
    assert seesTransport("self.transport.write(b'')")
    assert not seesTransport("self.transports = 1")
