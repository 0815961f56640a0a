"""What people do wrong on their first day: each time one line that says how to mend it."""

from __future__ import annotations

import os
import pwd
import socket
import sqlite3
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from integration.realserver import LIMIT, StartServer, pythonForAll, runTwistd
from madecertificate import certificate
from mailsrv.cli import main
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mariadb import Database

FREE = ("--port", "tcp:0:interface=127.0.0.1")


def oneLine(stderr: str) -> str:
    """The one line that is all that was said."""
    [line] = stderr.splitlines()
    assert line.startswith("smtpstore: ")
    assert "Traceback" not in line
    assert "Errno" not in line
    return line


def twistdSays(
    directory: Path,
    *args: str,
    python: Sequence[str] | None = None,
    twistd: Sequence[str] = (),
) -> str:
    """The last words of `twistd -n smtpstore`, which cannot start; `twistd`: its own options."""
    options = {} if python is None else {"python": python}
    done = runTwistd(directory, "-n", "--pidfile=", *twistd, "smtpstore", *args, **options)
    assert (done.returncode, done.stdout) == (1, "")
    return oneLine(done.stderr)


def commandSays(*args: str, status: int = 1) -> str:
    """The last words of a `smtpstore` that cannot do it."""
    done = CliRunner().invoke(main, args, prog_name="smtpstore", env={"SMTPSTORE_DB": None})
    assert isinstance(done.exception, SystemExit), done.exception
    assert (done.exit_code, done.stdout) == (status, "")
    return oneLine(done.stderr)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder, as a newcomer has it, and in it one that is empty too."""
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


# The database


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("smtpstore.db", "write sqlite:PATH"),
        ("sqlit:smtpstore.db", "write sqlite:PATH"),
        ("mysq://mail:secret@127.0.0.1/mail", "begins with none of sqlite:, mysql:"),
        ("sqlite:", "write sqlite:PATH"),
        ("sqlite:///mail.db", "without slashes before the path"),
        ("sqlite:nowhere/mail.db", "there is no folder "),
        ("sqlite:folder", "it is a folder; name a file in it"),
        (f"sqlite:{'a' * 300}.db", "File name too long"),
        ("mysql:/x", "write mysql://user:password@host:port/name"),
        ("mysql://mail:secret@127.0.0.1", "names no MySQL database"),
        ("mysql://mail:sec/ret@127.0.0.1/mail", "%2F for a /"),
        ("mysql://mail:secret@127.0.0.1:port/mail", "host and port that cannot be read"),
        ("mysql://mail:secret@127.0.0.1/mail?ssl=1", "a parameter 'ssl' that is unknown"),
    ],
)
def test_a_wrong_url_is_said_by_server_and_command(here: Path, url: str, says: str) -> None:
    for line in (
        twistdSays(here, *FREE, "--db", url),
        commandSays("user", "list", "--db", url),
        commandSays("init", "--db", url),
    ):
        assert says in line
        assert "secret" not in line
    assert not list(here.glob("**/*.db"))


def test_a_command_in_the_wrong_folder_makes_no_database(here: Path) -> None:
    line = commandSays("message", "list")
    assert f"there is no database {here / 'smtpstore.db'}; say where it is with --db" in line
    assert list(here.iterdir()) == [here / "folder"]


def test_tables_that_are_missing_or_newer_are_said_with_the_command(
    here: Path, database: Database
) -> None:
    for line in (
        twistdSays(here, *FREE, "--db", database.url),
        commandSays("user", "list", "--db", database.url),
    ):
        assert line.endswith("holds no tables yet; run: smtpstore init, with the same --db")
    upgrade(parseUrl(database.url))
    database.query("DELETE FROM schema_version WHERE version > 1")
    line = twistdSays(here, *FREE, "--db", database.url)
    assert line.endswith("tables of an older version; run: smtpstore init, with the same --db")
    database.query("INSERT INTO schema_version (version, name, applied_at) VALUES (9999, '', '')")
    for line in (
        twistdSays(here, *FREE, "--db", database.url),
        commandSays("user", "list", "--db", database.url),
    ):
        assert "was made by a newer smtpstore" in line
        assert line.endswith("; upgrade smtpstore")


def test_a_newer_file_is_left_alone(here: Path) -> None:
    upgrade(parseUrl("sqlite:smtpstore.db"))
    with sqlite3.connect("smtpstore.db") as connection:
        connection.execute("INSERT INTO schema_version VALUES (9999, 'later', '')")
    connection.close()
    for line in (twistdSays(here, *FREE), commandSays("user", "list"), commandSays("init")):
        assert "was made by a newer smtpstore" in line


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda url: url.replace(":p%40ss", ":wrong"), "Access denied for user"),
        (lambda url: url.replace("//mail", "//male"), "Access denied for user"),
        (lambda url: url + "s", "Access denied for user"),
        (lambda url: url + "?ssl_ca=/none.pem", "correct --db"),
    ],
    ids=["password", "user", "name", "certificate"],
)
def test_what_no_waiting_mends_is_status_1(
    here: Path, database: Database, wrong: Callable[[str], str], says: str
) -> None:
    url = wrong(database.url)
    assert url != database.url
    for args in (["user", "list"], ["init"]):
        done = CliRunner().invoke(main, [*args, "--db", url])
        assert (done.exit_code, done.stdout) == (1, "")
        [line] = done.stderr.splitlines()
        assert says in line
        assert "correct --db" in line
    done = runTwistd(here, "-n", "--pidfile=", "smtpstore", *FREE, "--db", url)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert says in done.stderr


@pytest.mark.parametrize("place", ["127.0.0.1:1", "nohost.invalid"])
def test_a_database_that_does_not_answer_may_come_yet(place: str) -> None:
    url = f"mysql://mail:secret@{place}/mail"
    done = CliRunner().invoke(main, ["user", "list", "--db", url])
    assert (done.exit_code, done.stdout, done.stderr.count("\n")) == (75, "", 1)
    assert "secret" not in done.stderr


# Options


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--relay-clients", "10.0.0.0/8"], "; is --relay-client meant?"),
        (["--prot", "25"], "; is --port meant?"),
        (["-n"], "; options of twistd stand before the word: twistd -n smtpstore"),
        (["--frobnicate"], "option --frobnicate not recognized"),
    ],
)
def test_a_misspelt_option_is_told_which_was_meant(here: Path, args: list[str], says: str) -> None:
    done = runTwistd(here, "smtpstore", *args)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith(says)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--relay-client", "192.0.2.1/24"], "network 192.0.2.0/24; write one of these"),
        (["--relay-client", "example.com"], "is not a network such as"),
        (["--webhook", "nonsense"], "not a URL such as https://"),
        (["--require-tls"], "--require-tls needs a certificate: give --tls-cert and --tls-key"),
        (["--tls-cert", "c.pem"], "--tls-cert and --tls-key go together: give both"),
        (["--tls", "yes"], "'yes' is not one of: auto"),
        (["--submission", "587"], "needs a certificate"),
        (["--domain", "bob@example.com"], "is not a domain such as example.com"),
        (["--policy", "nosuch"], "--policy nosuch: nobody offers it"),
    ],
)
def test_an_option_that_cannot_be_is_told_the_way_out(
    here: Path, args: list[str], says: str
) -> None:
    assert says in twistdSays(here, *FREE, *args)


@pytest.mark.root
def test_a_port_below_1024_is_told_whose_it_is(here: Path) -> None:
    line = twistdSays(
        here, "--port", "25", "--db", f"sqlite:{theirs(here)}/m.db", python=asNobody()
    )
    assert "cannot listen on 127.0.0.1:25: Permission denied; only root may" in line


@pytest.mark.root
def test_a_folder_that_cannot_be_come_back_to_is_no_hindrance(here: Path) -> None:
    """As after `sudo -u` somewhere below /root."""
    place = theirs(here)
    inside = closed(here)
    line = twistdSays(inside, "--port", "25", "--db", f"sqlite:{place}/m.db", python=asNobody())
    assert "cannot listen on 127.0.0.1:25: Permission denied; only root may" in line


@pytest.mark.root
@pytest.mark.parametrize("folder", [".", "closed"])
def test_a_folder_that_is_closed_to_the_server_is_told_whose_it_has_to_be(
    here: Path, folder: str
) -> None:
    theirs(here)
    (here / "closed").mkdir(mode=0o700)
    line = twistdSays(here, *FREE, "--db", f"sqlite:{folder}/m.db", python=asNobody())
    assert "Permission denied; let the server's user write to the folder " in line


@pytest.mark.root
def test_a_rundir_beside_a_folder_that_cannot_be_come_back_to_is_told_the_way_out(
    here: Path,
) -> None:
    place = theirs(here)
    inside = closed(here)
    line = twistdSays(inside, *FREE, python=asNobody(), twistd=("--rundir", str(place)))
    assert f"the folder {inside} is closed to the server's user; start it elsewhere" in line


@pytest.mark.parametrize("kind", ["missing", "a file"])
def test_a_rundir_that_is_none_is_told_the_way_out(here: Path, kind: str) -> None:
    (here / "a file").touch()
    line = twistdSays(here, *FREE, twistd=("--rundir", kind))
    assert f"--rundir {kind}: " in line
    assert line.endswith("; give a folder that the server's user may enter")


def asNobody() -> Sequence[str]:
    """Python, run by the user nobody."""
    nobody = pwd.getpwnam("nobody")
    return ("setpriv", f"--reuid={nobody.pw_uid}", "--clear-groups", *pythonForAll())


def theirs(here: Path) -> Path:
    """A folder of nobody's, which may be reached."""
    nobody = pwd.getpwnam("nobody")
    place = here / "theirs"
    place.mkdir()
    os.chown(place, nobody.pw_uid, nobody.pw_gid)
    for each in (here, *here.parents):
        if each.stat().st_uid == os.getuid() and "pytest" in str(each):
            each.chmod(0o755)
    return place


def closed(here: Path) -> Path:
    """A folder that nobody may not come back to."""
    inside = here / "closed" / "inside"
    inside.mkdir(parents=True)
    inside.parent.chmod(0o700)
    return inside


# Commands


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ("usr list", "No such command 'usr'. Did you mean 'user'?"),
        ("message list --frm x", "No such option '--frm'. Did you mean '--from'?"),
    ],
)
def test_a_misspelt_word_is_told_which_was_meant(args: str, says: str) -> None:
    done = CliRunner().invoke(main, args.split())
    assert done.exit_code == 2
    assert says in done.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        ("user add", 2, "Missing argument 'ADDRESS'; see: smtpstore user add --help"),
        ("import letter.eml", 2, "Missing option '--to'; see: smtpstore import --help"),
        ("message purge --older-than x", 2, "see: smtpstore message purge --help"),
        ("user add bob", 1, "'bob' is not an address; write local-part@domain"),
        ("user add bob@example.com", 1, "bob@example.com is a user already"),
        ("user passwd nobody@example.com", 1, "see: smtpstore user list"),
        ("user remove nobody@example.com", 1, "see: smtpstore user list"),
        ("alias add sales@example.com bob", 1, "'bob' is not an address"),
        ("alias add sales@example.com sales@example.com", 1, "would lead to itself"),
        ("alias remove sales@example.com", 1, "see: smtpstore alias list"),
        ("group add team@example.com nonsense", 1, "'nonsense' is not an address"),
        ("group add team@example.com team@example.com", 1, "would be a member of itself"),
        ("group show teem@example.com", 1, "see: smtpstore group list"),
        ("message show 123", 1, "there is no message 123; see: smtpstore message list"),
        ("message list --since yesterday", 1, "write 2026-01-31 or 2026-01-31T12:00:00Z"),
        ("queue retry 999", 1, "see: smtpstore queue list"),
        ("import letter.eml --to nobody@example.com", 1, "smtpstore user add nobody@example.com"),
        ("import none.eml --to bob@example.com", 1, "none.eml: No such file or directory"),
        ("import noise --to bob@example.com", 1, "noise is neither an mbox nor a message"),
        ("import folder --to bob@example.com", 1, "neither a Maildir nor a folder with .eml"),
        ("export out.mbox --to nobody@example.com", 1, "there is no mailbox nobody@example.com"),
        ("export nowhere/out.mbox", 1, "there is no folder nowhere; make it"),
        ("export nowhere/out --format maildir", 1, "there is no folder nowhere; make it"),
        ("export folder", 1, "folder is a folder; give a file, or --format"),
        ("export letter.eml", 1, "letter.eml exists already"),
        ("export /proc/out.mbox", 1, "/proc/out.mbox: No such file or directory; give another"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(
    here: Path, args: str, status: int, says: str
) -> None:
    (here / "letter.eml").write_bytes(b"Subject: x\r\n\r\nhello\r\n")
    (here / "noise").write_bytes(bytes(range(256)))
    for each in ("init", "user add bob@example.com"):
        assert CliRunner().invoke(main, each.split()).exit_code == 0
    assert says in commandSays(*args.split(), status=status)


# What is well all the same


def test_a_certificate_that_has_expired_is_said_at_the_start(
    startServer: StartServer, here: Path
) -> None:
    """The server starts: most of those who send mail do not look at it, and mail goes on."""
    cert, key = certificate(here, datetime.now(UTC) - timedelta(days=400))
    server = startServer("--tls-cert", str(cert), "--tls-key", str(key))
    server.waitFor(rf"warn.*{cert}: it has expired")
    with socket.create_connection(("127.0.0.1", server.port), LIMIT) as connection:
        assert connection.recv(1000).startswith(b"220 ")
