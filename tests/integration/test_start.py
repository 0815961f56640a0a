"""A start that fails ends at once in one line that helps; a start that works says where mail goes."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import smtplib
import socket
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from integration.realserver import LIMIT, StartServer, pythonForAll, runTwistd

FREE = ("--port", "tcp:0:interface=127.0.0.1")


def oneLine(directory: Path, *args: str, env: dict[str, str] | None = None) -> str:
    """The one line a twistd says that cannot start; also that it is one, and the status not 0."""
    done = runTwistd(directory, *args, env=env)
    assert done.returncode not in (0, None)
    assert done.stdout == ""
    assert done.stderr.startswith("smtpstore: ")
    assert done.stderr.count("\n") == 1, done.stderr
    return done.stderr


@pytest.mark.parametrize("mode", [("-n",), ()], ids=["foreground", "daemon"])
@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--max-size", "huge"], "--max-size: 'huge' is not a whole number"),
        (["--max-size"], "option --max-size requires argument"),
        (["--no-vrfy=1"], "option --no-vrfy must not have an argument"),
        (["--port", "70000"], "--port: '70000' is neither a port number"),
        (["--port", "gopher:70"], "'gopher:70' is not an endpoint: Unknown endpoint type"),
        (["--port", "tcp:0:interface=198.51.100.1"], "this machine has no such address"),
        (["--db", "postgres://me:secret@db/mail"], "--db: "),
        (["--db", "sqlite:/nonexistent/mail.db"], "/nonexistent/mail.db"),
        ([*FREE, "--spool", "/nonexistent"], "--spool /nonexistent: No such file or directory"),
        (["--config", "/nonexistent.toml"], "--config /nonexistent.toml: No such file"),
        (["--smtps", "465"], "--smtps needs a certificate: "),
        ([*FREE, "--tls-cert", "/none.pem", "--tls-key", "/none.key"], "/none.pem: No such file"),
        ([*FREE, "--extension", "none"], "--extension none: nobody offers it; there is none"),
        (["--smart-host", "http://me:secret@relay"], "--smart-host: it is not smtp://user:"),
        (["--webhook", "me:secret@app"], "--webhook: it is not a URL such as https://"),
        (["--http", "70000"], "--http: '70000' is neither a port number"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_wrong_value_ends_in_one_line(
    tmp_path: Path, mode: tuple[str, ...], args: list[str], says: str
) -> None:
    line = oneLine(tmp_path, *mode, "--pidfile=", "smtpstore", *args)
    assert says in line
    assert "secret" not in line


@pytest.mark.parametrize("mode", [("-n",), ()], ids=["foreground", "daemon"])
def test_a_port_in_use_ends_in_one_line(tmp_path: Path, mode: tuple[str, ...]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = oneLine(tmp_path, *mode, "--pidfile=", "smtpstore", "--port", str(port))
    assert f"cannot listen on 127.0.0.1:{port}: Address already in use; " in line


def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "other.db").write_bytes(b"not a database, and long enough to be none" * 100)
    before = (tmp_path / "other.db").read_bytes()
    line = oneLine(tmp_path, "-n", "--pidfile=", "smtpstore", *FREE, "--db", "sqlite:other.db")
    assert "other.db" in line
    assert (tmp_path / "other.db").read_bytes() == before


@pytest.mark.parametrize("word", ["--nonsense", "nonsense"])
def test_an_unknown_option_or_word_shows_the_usage_first(tmp_path: Path, word: str) -> None:
    done = runTwistd(tmp_path, "-n", "smtpstore", word)
    assert done.returncode == 1
    assert "--max-recipients=N" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("smtpstore: ")
    assert "nonsense" in done.stderr.splitlines()[-1]


def test_the_help_lists_every_option_that_is_built(tmp_path: Path) -> None:
    done = runTwistd(tmp_path, "smtpstore", "--help")
    assert done.returncode == 0
    for name in ("port", "http", "db", "max-line", "relay-client", "spool-disk", "config"):
        assert f"--{name}" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_twistd_lists_the_plugin(tmp_path: Path) -> None:
    assert "smtpstore" in runTwistd(tmp_path, "--help").stdout


def test_the_start_says_where_it_listens_and_where_mail_goes(startServer: StartServer) -> None:
    server = startServer()
    server.waitFor(rf"SMTP listens on 127\.0\.0\.1:{server.port}$")
    server.waitFor(f"Mail goes to SQLite file {server.db}$")
    server.waitFor("every recipient is accepted")


def test_the_database_file_is_readable_by_its_owner_alone(startServer: StartServer) -> None:
    server = startServer()
    for file in server.directory.glob("mail.db*"):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_local_domains_are_said_at_the_start(startServer: StartServer) -> None:
    server = startServer("--domain", "Example.COM", "--domain", "example.org")
    server.waitFor("Local domains: example.com, example.org; ")


def test_the_environment_and_a_file_configure_it_too(
    startServer: StartServer, tmp_path: Path
) -> None:
    file = tmp_path / "smtpstore.toml"
    file.write_text('hostname = "mx.example.net"\nmax-size = 1000\nno-vrfy = true\n')
    server = startServer("--config", str(file), env={"SMTPSTORE_MAX_SIZE": "2000"})
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        assert client.ehlo()[1].startswith(b"mx.example.net")
        assert client.esmtp_features["size"] == "2000"
        assert client.verify("bob")[0] == 252


def test_more_listeners_share_one_server(startServer: StartServer, tmp_path: Path) -> None:
    path = tmp_path / "smtp.socket"
    server = startServer(*FREE, "--port", f"unix:{path}")
    server.waitFor(f"SMTP listens on {path}$")
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(LIMIT)
        connection.connect(str(path))
        assert connection.recv(1000).startswith(b"220 ")


def test_a_directory_of_twistd_is_where_relative_paths_begin(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    daemon = Daemon(tmp_path, "--rundir", "run", "smtpstore", *FREE)
    try:
        assert daemon.port
        assert (tmp_path / "run" / "smtpstore.db").exists()
        assert not (tmp_path / "smtpstore.db").exists()
    finally:
        daemon.stop()


class Daemon:
    """A twistd that went into the background; its log is twistd.log."""

    def __init__(
        self, directory: Path, *args: str, python: Sequence[str] = (sys.executable,)
    ) -> None:
        self.directory = directory
        done = runTwistd(directory, *args, python=python)
        assert (done.returncode, done.stderr) == (0, "")
        self.pid = int((directory / "twistd.pid").read_text())

    @property
    def log(self) -> str:
        return (self.directory / "twistd.log").read_text()

    @property
    def port(self) -> int:
        lines = [line for line in self.log.splitlines() if "SMTP listens on " in line]
        return int(lines[0].rpartition(":")[2])

    def stop(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + LIMIT
        while (self.directory / "twistd.pid").exists():
            assert time.monotonic() < deadline, self.log
            time.sleep(0.02)


def test_as_a_daemon_it_takes_mail_and_stops(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "smtpstore", *FREE)
    try:
        with smtplib.SMTP("127.0.0.1", daemon.port, timeout=LIMIT) as client:
            client.sendmail("a@example.com", "b@example.org", "Subject: 1\r\n\r\n")
    finally:
        daemon.stop()
    assert "Traceback" not in daemon.log
    with sqlite3.connect(tmp_path / "smtpstore.db") as connection:
        assert connection.execute("SELECT count(*) FROM messages").fetchone() == (1,)
    connection.close()


@pytest.fixture
def nobodysPlace() -> Iterator[Path]:
    """A directory that `nobody` owns and can reach."""
    nobody = pwd.getpwnam("nobody")
    directory = Path(tempfile.mkdtemp())
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    yield directory
    shutil.rmtree(directory)


def privilegedPort() -> int:
    """One that only root may bind and that is free."""
    for port in range(1023, 600, -1):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("no free port below 1024")


@pytest.mark.root
def test_root_binds_the_port_and_the_files_belong_to_the_user_it_becomes(
    nobodysPlace: Path,
) -> None:
    port = privilegedPort()
    args = ("--uid", "nobody", "smtpstore", "--port", str(port))
    daemon = Daemon(nobodysPlace, *args, python=pythonForAll())
    try:
        assert daemon.port == port
        with smtplib.SMTP("127.0.0.1", port, timeout=LIMIT) as client:
            client.sendmail("a@example.com", "b@example.org", "Subject: 1\r\n\r\n")
        owners = {file.owner() for file in nobodysPlace.glob("smtpstore.db*")}
        assert owners == {"nobody"}
        assert os.stat(f"/proc/{daemon.pid}").st_uid == pwd.getpwnam("nobody").pw_uid
    finally:
        daemon.stop()


@pytest.mark.root
def test_a_place_where_the_user_may_not_write_ends_in_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    line = oneLine(tmp_path, "-n", "--pidfile=", "--uid", "nobody", "smtpstore", *FREE)
    assert "smtpstore.db" in line


def test_chroot_is_refused_as_the_database_would_be_outside(tmp_path: Path) -> None:
    line = oneLine(tmp_path, "-n", "--chroot", "/tmp", "smtpstore", *FREE)
    assert "--chroot is not supported" in line
