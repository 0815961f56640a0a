"""The command as a whole: help, version, completion, exit status"""

from __future__ import annotations

import os
import sqlite3
import subprocess
from collections.abc import Iterator

import click
import pytest

from mailsrv.cli import main

# Taught by whoever writes them.
ELSEWHERE = ("queue", "events", "doctor", "send", "sendmail")


def commands(group: click.Group = main, path: str = "") -> Iterator[tuple[str, click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        else:
            yield f"{path}{name}", command


@pytest.mark.parametrize("path", [p for p, _ in commands() if not p.startswith(ELSEWHERE)])
def test_everyCommandTeachesByExamples(shell, path):
    help = shell.ok(*path.split(), "--help")
    _, _, examples = help.partition("Examples:\n")
    assert examples.strip().startswith(f"smtpstore {path}"), help


@pytest.mark.parametrize("path", [p for p, _ in commands() if not p.startswith(ELSEWHERE)])
def test_theExamplesAreRight(shell, path):
    """Every option an example names is one of the command."""
    command = dict(commands())[path]
    known = {name for each in command.params for name in (*each.opts, *each.secondary_opts)}
    help = f"{command.help}\n{command.epilog}"
    lines = [line for line in help.splitlines() if line.strip().startswith("smtpstore ")]
    assert lines
    for line in lines:
        words = [word for word in line.split("#")[0].split() if word.startswith("--")]
        assert set(words) <= known, line


def test_mainTellsTheExitStatuses(shell):
    help = " ".join(shell.ok("--help").split())
    assert "Exit status: 0 done; 1 it cannot be done" in help
    assert "75 the database is busy, full or down" in help


@pytest.mark.parametrize(
    "arguments", [["nonsense"], ["user", "list", "--nonsense"], ["import", "x"]]
)
def test_aWrongUseIsTwo(shell, arguments):
    assert shell.run(*arguments).exit_code == 2


def test_whatIsThereTellsItsVersion(shell, monkeypatch):
    from importlib import metadata

    monkeypatch.setattr(metadata, "version", lambda name: {"smtpstore": "1.2.3"}[name])
    assert shell.ok("--version") == "smtpstore 1.2.3\n"

    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    assert shell.ok("--version") == "smtpstore of a checkout that is not installed\n"


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_theCompletionScriptAsksUs(shell, name):
    script = shell.ok("completion", name)
    assert f"_SMTPSTORE_COMPLETE={name}_complete" in script
    assert "smtpstore" in script


def test_bashCompletesCommandsAndOptions(shell, tool, tmp_path):
    environment = {"COMP_WORDS": "smtpstore message pu", "COMP_CWORD": "2"}
    process = shell.process(env={"_SMTPSTORE_COMPLETE": "bash_complete", **environment})
    out, _ = process.communicate(timeout=20)
    assert out.decode().split() == ["plain,purge"]
    script = tmp_path / "script"
    script.write_text(shell.ok("completion", "bash"))
    tried = subprocess.run([tool("bash"), "-n", script], capture_output=True, timeout=20)
    assert (tried.returncode, tried.stderr) == (0, b"")


def test_aShellClickDoesNotKnowIsSaidSo(shell, monkeypatch):
    monkeypatch.setattr("mailsrv.cli.completion.get_completion_class", lambda name: None)
    assert "not known to this version of click" in shell.complaint("completion", "fish")


# Trouble with the database


def test_aBusyDatabaseIs75(shell, monkeypatch):
    monkeypatch.setattr("mailsrv.store.dialect.SqliteDialect.__init__.__defaults__", (0.05,))
    connection = sqlite3.connect(shell.path, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        for command in ("user add a@x.org", "alias add a@x.org b@x.org", "init"):
            assert "locked" in shell.complaint(*command.split(), status=75)
    finally:
        connection.close()


def test_aServerThatIsDownIs75(shell):
    url = "mysql://mail:hush@127.0.0.1:1/mail"
    line = shell.complaint("user", "list", "--db", url, status=75)
    assert "hush" not in line


def test_aDatabaseThatIsNotThereSaysWhereToLook(shell):
    shell.path.unlink()
    line = shell.complaint("user", "list")
    assert "there is no database" in line
    assert "--db or SMTPSTORE_DB" in line
    assert "smtpstore init --db" in line


def test_aDriverThatIsMissingIsNamedWithItsExtra(shell, tmp_path):
    (tmp_path / "pymysql.py").write_text("raise ModuleNotFoundError('no', name='pymysql')")
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    process = shell.process(
        "user", "list", "--db", "mysql://a@b/c", env={"PYTHONPATH": f"{tmp_path}:{root}"}
    )
    _, err = process.communicate(timeout=20)
    assert process.returncode == 1
    [line] = err.decode().splitlines()
    assert "pip install 'smtpstore[mysql]'" in line
