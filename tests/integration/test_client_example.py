"""The example of a client, run as a person would."""

from __future__ import annotations

import sys
from pathlib import Path

from integration.realserver import ROOT, StartServer
from integration.test_send_commands import LETTER, SEND, run, stored

CLIENT = [sys.executable, str(ROOT / "examples/client.py")]


def test_the_example_of_a_client(startServer: StartServer, tmp_path: Path) -> None:
    server = startServer("--domain", "example.com", "--tls", "auto")
    for words in (["bob@example.com"], ["old@example.com", "--moved-to", "new@example.org"]):
        cli = [*SEND[:-1], "user", "add", *words]
        assert run(*cli, SMTPSTORE_DB=server.url).returncode == 0
    (tmp_path / "message.eml").write_bytes(LETTER.replace(b"\n", b"\r\n"))
    people = ["me@example.org", "bob@example.com", "old@example.com"]
    done = run(*CLIENT, "localhost", str(server.port), *people, str(tmp_path / "message.eml"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.decode().splitlines()
    assert lines[0].startswith("bob@example.com: 250 ")
    assert lines[1].startswith("old@example.com: 551 ")
    assert lines[2] == "  its address is now new@example.org"
    assert stored(server) == [LETTER.replace(b"\n", b"\r\n")]
    assert server.rows("SELECT protocol FROM messages") == [("ESMTPS",)]
    done = run(*CLIENT, "localhost", "9", *people, str(tmp_path / "message.eml"))
    assert done.stderr.startswith(b"localhost: 451 No answer")
