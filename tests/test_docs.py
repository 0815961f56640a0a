"""The pages of docs/: they build without a warning, and what they show is run as it stands.

In a page every block of `console` is typed into a shell, in order, in an empty directory: a line
behind `$` is a command, the lines below it are what it prints, where `…` stands for anything.
`twistd -n smtpstore`, and what ends with `&`, goes on running; only their ports are others. What
`sqlite3` shows may take a moment to come. A block with a caption is a
file of that name. A block with a class is left to other tests.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import pytest

from integration.realserver import LIMIT, ROOT, TWISTD, Server, environment
from mailsrv.server.state import ALLOWED, State
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mailsrv.table import OPTIONS
from mariadb import Database

DOCS = ROOT / "docs"
PAGES = sorted(str(page.relative_to(DOCS)) for page in DOCS.glob("**/*.rst"))
SPHINX = (sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-E")
sys.path.append(str(DOCS))
generated = import_module("generated")


@dataclass(frozen=True, slots=True)
class Block:
    """A code block of a page: its language, its options, its text."""

    language: str
    options: dict[str, str]
    text: str


_BLOCK = re.compile(
    r"^\.\. code-block:: (\w+)\n((?: +:\w+:.*\n)*)\n((?:(?: {3,}.*)?\n)+)", re.MULTILINE
)


def blocksOf(page: str) -> Iterator[Block]:
    text = (DOCS / page).read_text("utf-8") + "\n"
    for language, options, body in _BLOCK.findall(text):
        lines = body.rstrip().splitlines()
        margin = min(len(line) - len(line.lstrip()) for line in lines if line)
        said = dict(re.findall(r":(\w+): *(.*)", options))
        yield Block(language, said, "\n".join(line[margin:] for line in lines) + "\n")


def commandsOf(block: Block) -> Iterator[tuple[str, list[str]]]:
    """Each command with what it is to print; a backslash at its end goes on in the next line."""
    for part in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, *lines = re.sub(r"\\\n\s*", " ", part).splitlines()
        yield command, [line for line in lines if line]


def isAsShown(shown: str, real: str) -> bool:
    """Whether the line is as the page has it; blanks at its end and in a row count for nothing."""
    parts = (re.escape(" ".join(part.split())) for part in shown.split("…"))
    return re.fullmatch(r"\s?.*\s?".join(parts), " ".join(real.split())) is not None


class Page:
    """A page that is being followed: its directory, and the server that runs there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "here"
        self.directory.mkdir()
        programs = directory / "bin"
        programs.mkdir()
        for name, call in (
            ("smtpstore", f"{sys.executable} -c 'from mailsrv.cli import main; main()'"),
            ("django-admin", f"{sys.executable} -m django"),
            ("flask", f"{sys.executable} -m flask"),
        ):
            (programs / name).write_text(f'#!/bin/sh\nexec {call} "$@"\n')
            (programs / name).chmod(0o755)
        for name in ("python", "python3"):
            (programs / name).symlink_to(sys.executable)
        self._env = environment(PATH=f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin")
        self._ports = {port: str(freePort()) for port in ("2525", "5000")}
        self._server: Server | None = None
        self._others: list[subprocess.Popen[bytes]] = []

    def follow(self, page: str) -> int:
        """Do what it says; returns how many commands that were."""
        done = 0
        for block in blocksOf(page):
            if "class" in block.options:
                continue
            if "caption" in block.options:
                path = self.directory / block.options["caption"]
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(block.text)
            elif block.language == "console":
                for command, shown in commandsOf(block):
                    self._run(command, shown)
                    done += 1
        return done

    def _run(self, command: str, shown: list[str]) -> None:
        command = swapped(command, self._ports)
        if found := re.match(r"(?:PYTHONPATH=(\S+) )?twistd (.*)", command):
            self._start(found[1], found[2], shown)
        elif found := re.match(r"export (\w+)=(\S+)$", command):
            self._env[found[1]] = found[2]
        elif command.endswith(" &"):
            self._startOther(command.removesuffix(" &"))
        else:
            self._runAndLook(command, shown)

    def _runAndLook(self, command: str, shown: list[str]) -> None:
        deadline = time.monotonic() + LIMIT
        while True:
            done = subprocess.run(
                ["sh", "-c", command],
                cwd=self.directory,
                env=self._env,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LIMIT,
            )
            said = swapped(done.stdout, {real: port for port, real in self._ports.items()})
            assert done.returncode == 0, f"{command}\n{said}"
            missing = firstMissing(shown, [line for line in said.splitlines() if line.strip()])
            if missing is None:
                return
            mayCome = command.startswith("sqlite3 ") and time.monotonic() < deadline
            assert mayCome, f"{command}\ndoes not print {missing!r} but\n{said}"
            time.sleep(0.1)

    def _start(self, path: str | None, words: str, shown: list[str]) -> None:
        """Start the server; the one that ran before is stopped."""
        self._stopServer()
        args = words.split()
        if not any(self._ports["2525"] in arg for arg in args):
            args += ["--port", self._ports["2525"]]
        paths = filter(None, (path, self._env["PYTHONPATH"]))
        process = subprocess.Popen(
            [*TWISTD, *args],
            cwd=self.directory,
            env={**self._env, "PYTHONPATH": os.pathsep.join(paths)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._server = Server(process, self.directory, "sqlite:smtpstore.db")
        self._server.waitFor("Mail goes to ")
        for line in shown:
            parts = (part.strip() for part in line.split("…"))
            pattern = ".*".join(re.escape(part) for part in parts)
            self._server.waitFor(swapped(pattern, self._ports))

    def _startOther(self, command: str) -> None:
        """Start another program, and wait until it listens."""
        process = subprocess.Popen(
            ["sh", "-c", f"exec {command}"], cwd=self.directory, env=self._env
        )
        self._others.append(process)
        [port] = [int(real) for real in self._ports.values() if real in command]
        deadline = time.monotonic() + LIMIT
        while True:
            assert process.poll() is None
            assert time.monotonic() < deadline
            with suppress(ConnectionRefusedError):
                socket.create_connection(("127.0.0.1", port), LIMIT).close()
                return
            time.sleep(0.05)

    def _stopServer(self) -> None:
        if self._server is not None:
            self._server.stop()
            assert "Traceback" not in "\n".join(self._server.log)

    def close(self) -> None:
        self._stopServer()
        for process in self._others:
            process.terminate()
            process.wait(LIMIT)


def swapped(text: str, ports: Mapping[str, str]) -> str:
    """The text with other ports, all at once: one may hold the digits of another."""
    return re.sub(rf"\b({'|'.join(ports)})\b", lambda found: ports[found[0]], text)


def firstMissing(shown: list[str], lines: list[str]) -> str | None:
    """The first line the page shows that is not there, in this order; None: all are."""
    for line in shown:
        found = [at for at, each in enumerate(lines) if isAsShown(line, each)]
        if not found:
            return line
        del lines[: found[0] + 1]
    return None


def freePort() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def following(tmp_path: Path) -> Iterator[Page]:
    page = Page(tmp_path)
    yield page
    page.close()


def isFollowed(page: str) -> bool:
    return any(
        block.language == "console" and "class" not in block.options for block in blocksOf(page)
    )


@pytest.mark.parametrize("page", [page for page in PAGES if isFollowed(page)])
def test_a_page_can_be_followed(page: str, following: Page, tool: Callable[[str], str]) -> None:
    for name in ("swaks", "curl", "sqlite3"):
        tool(name)
    assert following.follow(page)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(block.language == "python" for block in blocksOf(page))]
)
def test_the_python_of_a_page_compiles(page: str) -> None:
    for block in blocksOf(page):
        if block.language == "python":
            compile(block.text, page, "exec")


def test_a_wrong_line_on_a_page_would_be_noticed(following: Page) -> None:
    following._run("echo one; echo two", ["one", "t…o"])
    with pytest.raises(AssertionError, match="does not print"):
        following._run("echo one", ["three"])
    with pytest.raises(AssertionError):
        following._run("exit 1", [])


def test_the_pages_build_without_a_warning(tmp_path: Path) -> None:
    done = subprocess.run(
        [*SPHINX, "-d", tmp_path / "doctrees", DOCS, tmp_path / "html"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    options = (tmp_path / "html" / "options.html").read_text("utf-8")
    assert [each.name for each in OPTIONS if each.group and f"--{each.name}" not in options] == []


def test_the_readme_has_the_options_as_they_are() -> None:
    readme = generated.README.read_text("utf-8")
    assert generated.rewriteReadme(readme) == readme, "run: make docs"


def test_every_reply_has_its_reason() -> None:
    replies = [said for _, said in generated.allReplies()]
    assert len(replies) > 50
    assert [said for said in replies if not generated.reasonOf(said)] == []
    unused = set(generated.REASONS.values()) - {generated.reasonOf(said) for said in replies}
    assert unused == set()


def test_every_column_of_the_tables_has_its_meaning(tmp_path: Path) -> None:
    dialect = parseUrl(f"sqlite:{tmp_path / 'mail.db'}")
    upgrade(dialect)
    connection = dialect.connect()
    txn = connection.cursor()
    txn.execute(
        "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_xinfo(t.name) c"
        " WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite_%' AND t.name <> 'schema_version'"
    )
    real = set(txn.fetchall())
    connection.close()
    assert real == set(columnsShown())


def test_mysql_has_the_same_columns_each_with_its_comment(database: Database) -> None:
    upgrade(parseUrl(database.url))
    found = database.query(
        "SELECT table_name, column_name, column_comment FROM information_schema.columns"
        " WHERE table_schema = DATABASE() AND table_name NOT IN ('schema_version', 'mailbox')"
    )
    assert [row for row in found if not row[2]] == []
    assert {(table, column) for table, column, _ in found} == set(columnsShown())


def test_the_full_text_index_of_mariadb_is_made_as_shown(database: Database) -> None:
    upgrade(parseUrl(database.url))
    message = (
        "INSERT INTO messages (id, received_at, sender, size, protocol, peer, helo, parameters,"
        " sha256, trace, subject, body_start, data)"
        " VALUES (%s, NOW(), '', 1, '', '', '', '', '', '', 'Contract', 3, '..Signed and sealed.')"
    )
    database.query(message, "old")
    [sql] = [each.text for each in blocksOf("cookbook/full-text.rst") if each.language == "sql"][1:]
    *changes, search = filter(str.strip, sql.split(";\n"))
    for change in changes:
        database.query(change)
    database.query(message, "new")
    assert sorted(database.query(search)) == [("new", "Contract"), ("old", "Contract")]


def test_every_state_is_in_the_picture() -> None:
    sessions = import_module("sessions")
    shown = [*sessions.WAYS, *(state for state, _, _ in sessions.OTHERS)]
    assert sorted(shown) == sorted(state.name for state in State)
    assert {state for state, allowed in ALLOWED.items() if allowed} == {
        State[name] for name in sessions.WAYS
    }
    assert sessions.sessionAfter(*sessions.RCPT, "DATA") == ("354", "DATA")


def columnsShown() -> Iterator[tuple[str, str]]:
    """Table and column of all that the page of tables shows with a meaning."""
    for name, (columns, _) in generated.tables().items():
        yield from (
            (name, column) for column, (kind, meaning) in columns.items() if kind and meaning
        )


def test_the_news_are_made_of_all_their_fragments() -> None:
    fragments = list((ROOT / "newsfragments").glob("*.rst"))
    done = subprocess.run(
        [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "1.2.3"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "smtpstore 1.2.3" in done.stdout
    for fragment in fragments:
        assert " ".join(fragment.read_text("utf-8").split()) in " ".join(done.stdout.split())
