"""The cookbook's extension, plugged in as it says: active when it is named, and only then."""

from __future__ import annotations

import re
import smtplib
from pathlib import Path

import pytest

from integration.realserver import LIMIT, ROOT, StartServer, environment, runTwistd

PAGE = (ROOT / "docs" / "cookbook" / "extension.rst").read_text("utf-8")
FREE = ("--port", "tcp:0:interface=127.0.0.1")


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """The page's two files, and a Python path on which they are found."""
    for caption, text in re.findall(
        r":caption: (\S+)\n +:class: elsewhere\n\n((?: {3}.*\n|\n)+)", PAGE
    ):
        path = tmp_path / "own" / caption
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(re.sub("^ {3}", "", text, flags=re.MULTILINE))
    return {"PYTHONPATH": f"{tmp_path / 'own'}:{environment()['PYTHONPATH']}"}


def test_the_extension_of_the_cookbook_is_active_when_it_is_named(
    startServer: StartServer,
    env: dict[str, str],
) -> None:
    option = re.search(r"smtpstore (--extension \S+)", PAGE)
    assert option is not None
    server = startServer(*option[1].split(), env=env)
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.ehlo()
        assert client.has_extn("xticket")
        for ticket, code in (("4711", 250), ("x", 501), ("1234567", 501)):
            assert client.mail("a@example.com", [f"XTICKET={ticket}"])[0] == code
            client.rset()
        client.sendmail("a@example.com", "b@example.org", "Subject: x\r\n\r\n", ["XTICKET=4711"])
    [(parameters,)] = server.rows("SELECT parameters FROM messages")
    assert "XTICKET=4711" in parameters


def test_it_is_not_where_it_is_not_named(
    startServer: StartServer,
    env: dict[str, str],
) -> None:
    server = startServer(env=env)
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.ehlo()
        assert not client.has_extn("xticket")
        assert client.mail("a@example.com", ["XTICKET=4711"])[0] == 555


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--extension", "xtocket"], "nobody offers it; there are: xticket"),
        (["--extension", "xticket", "--extension", "xticket"], "two extensions claim XTICKET"),
        (["--extension", "xticket:digits=many"], "--extension xticket: invalid literal"),
        (["--policy", "strict"], "--policy strict: nobody offers it; there is none at all"),
    ],
)
def test_what_is_wrong_ends_the_start_in_one_line(
    tmp_path: Path, env: dict[str, str], args: list[str], says: str
) -> None:
    done = runTwistd(tmp_path, "-n", "--pidfile=", "smtpstore", *FREE, *args, env=env)
    assert done.returncode == 1
    assert done.stderr.startswith("smtpstore: ")
    assert says in done.stderr
    assert done.stderr.count("\n") == 1
