"""A database of its own for each test, and the command line beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from mailsrv.cli import main
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade

PROGRAM = "from mailsrv.cli import main; main(prog_name='smtpstore')"


class Shell:
    """Runs `smtpstore` on one database, here or in a process of its own."""

    def __init__(self, url: str) -> None:
        self.dialect = parseUrl(url)
        self.path = Path(url.removeprefix("sqlite:"))
        self.environment = {"SMTPSTORE_DB": url}

    def run(self, *arguments: str, input: bytes | None = None) -> Result:
        return CliRunner().invoke(main, arguments, input=input, env=self.environment)

    def ok(self, *arguments: str, input: bytes | None = None) -> str:
        result = self.run(*arguments, input=input)
        assert (result.exit_code, result.stderr) == (0, "")
        return result.stdout

    def rows(self, *arguments: str, input: bytes | None = None) -> list[dict]:
        return json.loads(self.ok(*arguments, "--json", input=input))

    def complaint(self, *arguments: str, input: bytes | None = None, status: int = 1) -> str:
        """The one line on standard error of a command that fails."""
        result = self.run(*arguments, input=input)
        assert result.exit_code == status
        assert isinstance(result.exception, SystemExit)
        assert result.stdout == ""
        [line] = result.stderr.splitlines()
        assert line.startswith("smtpstore: ")
        return line

    def process(self, *arguments: str, prelude: str = "", **options) -> subprocess.Popen[bytes]:
        root = str(Path(__file__).parents[2])
        options["env"] = {
            **os.environ, **self.environment, "PYTHONPATH": root, **options.get("env", {})
        }  # fmt: skip
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.Popen([sys.executable, "-c", prelude + PROGRAM, *arguments], **options)

    def sql(self, statement: str, *parameters: object) -> list:
        connection = self.dialect.connect()
        try:
            txn = connection.cursor()
            txn.execute(statement, parameters)
            rows = txn.fetchall() if txn.description else []
            connection.commit()
            return list(rows)
        finally:
            connection.close()


@pytest.fixture
def shell(tmp_path, makeUrl) -> Shell:
    url = makeUrl(tmp_path)
    upgrade(parseUrl(url))
    return Shell(url)
