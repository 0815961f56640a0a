"""The README's commands, run as they stand there; only the port is another one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from integration.realserver import LIMIT, ROOT, Server, StartServer, environment
from mailsrv.settings import OPTIONS

README = (ROOT / "README.rst").read_text("utf-8")
COMMANDS = re.findall(r"^    \$ (.*)$", README, re.MULTILINE)
# Run by other tests, or by whoever reads this: they install, or start a server.
ELSEWHERE = ("make ", "pip ", "twistd ", ". .venv/", "python3 -m venv ", "install ")


@pytest.fixture
def shell(tmp_path: Path) -> Callable[[str, Server], str]:
    """A shell in the server's directory where `smtpstore` and `python3` are those under test."""
    programs = tmp_path / "bin"
    programs.mkdir()
    smtpstore = programs / "smtpstore"
    call = f"{sys.executable} -c 'from mailsrv.cli import main; main()'"
    smtpstore.write_text(f'#!/bin/sh\nexec {call} "$@"\n')
    smtpstore.chmod(0o755)
    (programs / "python3").symlink_to(sys.executable)

    def run(command: str, server: Server) -> str:
        done = subprocess.run(
            ["sh", "-c", command.replace("2525", str(server.port))],
            cwd=server.directory,
            env=environment(PATH=f"{programs}:{os.environ['PATH']}"),
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    return run


def commandsWith(*words: str) -> list[str]:
    found = [each for each in COMMANDS if not each.startswith(ELSEWHERE)]
    return [each for each in found if each.split()[0] in words]


def test_a_first_mail_is_sent_and_looked_at(
    startServer: StartServer,
    tool: Callable[[str], str],
    shell: Callable[[str, Server], str],
    tmp_path: Path,
) -> None:
    for name in ("swaks", "curl", "sqlite3"):
        tool(name)
    server = startServer("--db", "sqlite:smtpstore.db")
    for command in commandsWith("swaks", "printf", "python3"):
        shell(command, server)
    [listed] = [shell(each, server) for each in COMMANDS if each == "smtpstore message list"]
    assert listed.count("me@example.com") == 3
    [table] = [shell(each, server) for each in commandsWith("sqlite3")]
    assert table.count("me@example.com") == 3
    assert table.count("|Hello|") == 2
    [json] = [shell(each, server) for each in COMMANDS if each.endswith("--json")]
    assert json.count('"me@example.com"') == 3


def test_users_aliases_and_groups_are_added(
    startServer: StartServer, shell: Callable[[str, Server], str]
) -> None:
    server = startServer("--db", "sqlite:smtpstore.db", "--domain", "example.com")
    added = [each for each in COMMANDS if re.match("smtpstore (user|alias|group) add", each)]
    assert len(added) == 3
    for command in added:
        shell(command, server)
    assert "bob@example.com" in shell("smtpstore user list", server)


def test_every_command_is_known_to_these_tests() -> None:
    known = ("swaks", "printf", "python3", "smtpstore", "sqlite3")
    assert [each for each in COMMANDS if not each.startswith((*ELSEWHERE, *known))] == []
    assert shutil.which("sh")


@pytest.mark.parametrize("option", [each for each in OPTIONS if each.group], ids=lambda o: o.name)
def test_every_option_is_in_the_table_with_its_default(option: object) -> None:
    name, metavar = option.name, option.metavar  # type: ignore[attr-defined]
    row = re.search(rf"^``--{name}( {metavar})?``( \+)? +(.*)$", README, re.MULTILINE)
    assert row is not None
    assert bool(row[1]) == bool(metavar)
    assert bool(row[2]) == option.isRepeatable  # type: ignore[attr-defined]
    default = option.default  # type: ignore[attr-defined]
    if isinstance(default, tuple):
        default = default[0] if default else None
    if default:
        shown = int(default) if isinstance(default, float) else default
        assert row[3].startswith(str(shown))


def test_no_option_is_in_the_table_that_is_not_there() -> None:
    shown = re.findall(r"^``--([a-z-]+)", README, re.MULTILINE)
    assert shown == [option.name for option in OPTIONS if option.group]
