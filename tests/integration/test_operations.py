"""What contrib/ and the page on operations say an operator may do, done."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import smtplib
import subprocess
import threading
import time
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from integration.realserver import LIMIT, ROOT, StartServer, environment
from integration.test_start import FREE, Daemon
from mailsrv.settings import readSettings
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mariadb import Database, Mariadb

CONTRIB = ROOT / "contrib"
UNITS = CONTRIB / "systemd"
OPERATIONS = (ROOT / "docs" / "operations.rst").read_text("utf-8")
TEXT = b"Subject: Hello\r\n\r\nA line.\r\n"

Tool = Callable[[str], str]


def run(*command: str | Path, **more: Any) -> str:
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=60, **more
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def send(server: Any, count: int = 1, text: bytes = TEXT) -> None:
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        for number in range(count):
            client.sendmail(f"{number}@example.org", "b@example.com", text)


def commands(program: str) -> list[str]:
    """Those of the page that call the program."""
    return re.findall(rf"^    \$ ((?:umask 077; )?{program} .*)$", OPERATIONS, re.MULTILINE)


# systemd


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A copy of the units whose programs are there."""
    bin = tmp_path / "bin"
    bin.mkdir()
    for name in ("twistd", "smtpstore"):
        (bin / name).symlink_to("/bin/true")
    for unit in UNITS.iterdir():
        text = unit.read_text("utf-8")
        assert "/opt/smtpstore/bin/" in text or "ExecStart" not in text
        (tmp_path / unit.name).write_text(text.replace("/opt/smtpstore/bin", str(bin)))
    return tmp_path


def test_systemd_has_nothing_to_say_about_the_units(tool: Tool, units: Path) -> None:
    files = [file for file in units.iterdir() if file.is_file()]
    assert len(files) == 4
    assert run(tool("systemd-analyze"), "verify", "--man=no", *files) == ""
    (units / "smtpstore.socket").write_text("[Socket]\nListenStream=nowhere\n")
    with pytest.raises(AssertionError):
        run(tool("systemd-analyze"), "verify", "--man=no", units / "smtpstore.socket")


def test_the_service_may_do_little(tool: Tool, units: Path) -> None:
    run(
        *(tool("systemd-analyze"), "security", "--offline=true", "--threshold=20"),
        units / "smtpstore.service",
    )


def test_a_stop_of_the_unit_leaves_the_server_its_time() -> None:
    text = (UNITS / "smtpstore.service").read_text("utf-8")
    found = re.search(r"^TimeoutStopSec=(\d+)$", text, re.MULTILINE)
    assert found is not None
    assert int(found[1]) > 20


def test_the_server_understands_what_the_unit_tells_it(tmp_path: Path) -> None:
    config = CONTRIB / "smtpstore.toml"
    settings, _ = readSettings({"config": [str(config)]}, {})
    assert settings.domains == ("example.com",)
    socket = (UNITS / "smtpstore.socket").read_text("utf-8")
    [wanted] = re.findall(r'port = "(systemd:\S+)"', socket)
    assert f"FileDescriptorName={wanted.rpartition('=')[2]}\n" in socket
    assert wanted in OPERATIONS
    state = f"sqlite:/var/lib/{config.stem}/"
    assert tomllib.loads(config.read_text("utf-8"))["db"].startswith(state)
    assert state in (UNITS / "smtpstore-purge.service").read_text("utf-8")


# HAProxy


def test_haproxy_accepts_its_configuration(tool: Tool) -> None:
    run(tool("haproxy"), "-c", "-f", CONTRIB / "haproxy.cfg")


# Logs


def test_the_log_is_rotated_and_old_ones_go(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path, "smtpstore", *FREE)
    try:
        port = daemon.port
        # Many, so that one that went while the server renames them would be met.
        old = [tmp_path / f"twistd.log.{number}" for number in range(2, 1000)]
        for file in old:
            file.write_text("long ago")
            os.utime(file, (0, 0))
        run(CONTRIB / "rotate-log", tmp_path)
        waitUntil((tmp_path / "twistd.log.1").exists)
        assert not any(file.exists() for file in old)
        assert "Mail goes to" in (tmp_path / "twistd.log.1").read_text()
        with smtplib.SMTP("127.0.0.1", port, timeout=LIMIT) as client:
            client.sendmail("a@example.org", "b@example.com", TEXT)
        waitUntil(lambda: "stored id=" in daemon.log)
    finally:
        daemon.stop()


def waitUntil(isSo: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT
    while not isSo():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# Backup and restore


def test_a_sqlite_backup_made_under_load_has_every_message_answered_before(
    tool: Tool, startServer: StartServer, tmp_path: Path
) -> None:
    tool("sqlite3")
    server = startServer(db=tmp_path / "server0" / "smtpstore.db")
    send(server, 20)
    send(server, 1, b"Subject: Large\r\n\r\n" + b"0123456789abcdef\r\n" * 150_000)
    isOver = threading.Event()

    def load() -> None:
        while not isOver.is_set():
            send(server, 10)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        [command, _] = commands("sqlite3")
        run("sh", "-c", command, cwd=server.directory)
    finally:
        isOver.set()
        thread.join(LIMIT)
    assert (server.directory / "backup.db").stat().st_mode & 0o077 == 0
    before = contents(server)
    restored = startServer(db=server.directory / "backup.db")
    after = contents(restored)
    assert len(after) >= 21
    assert after.items() <= before.items()
    send(restored)
    assert len(contents(restored)) == len(after) + 1


def contents(server: Any) -> dict[str, tuple[Any, ...]]:
    """All there is of each message, by its id."""
    rows = server.rows("SELECT id, sender, sha256, trace, data FROM messages")
    parts = server.rows("SELECT message_id, seq, data FROM message_parts ORDER BY 1, 2")
    recipients = server.rows("SELECT message_id, address FROM recipients")
    return {
        id: (
            tuple(rest),
            tuple(part for part in parts if part[0] == id),
            tuple(each for each in recipients if each[0] == id),
        )
        for id, *rest in rows
    }


def test_a_mariadb_dump_brings_everything_back(
    tool: Tool, startServer: StartServer, mariadb: Mariadb, database: Database, tmp_path: Path
) -> None:
    tool("mariadb-dump")
    upgrade(parseUrl(database.url))
    server = startServer(url=database.url)
    send(server, 5)
    everything = bytes(range(256)) * 8192  # 2 MiB, so that there are parts
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.ehlo()
        client.docmd("MAIL", "FROM:<a@example.org> BODY=BINARYMIME")
        client.docmd("RCPT", "TO:<b@example.com>")
        client.send(f"BDAT {len(everything)} LAST\r\n".encode() + everything)
        assert client.getreply()[0] == 250
    other = mariadb.makeDatabase()
    config = tmp_path / "my.cnf"
    config.write_text(f"[client]\nsocket={mariadb.socket}\nuser=root\n")
    names = {"mail": database.name, "mail2": other.name}
    for command in [*commands("mariadb-dump"), *commands("mariadb")]:
        command = re.sub(r"\bmail2?(?=$| )", lambda found: names[found[0]], command)
        program, _, rest = command.partition(" ")
        run("sh", "-c", f"{program} --defaults-extra-file={config} {rest}", cwd=tmp_path)
    restored = startServer(url=other.url)
    assert contents(restored) == contents(server)
    send(restored)
    assert len(contents(restored)) == 7
    restored.stop()
    other.drop()


# Memory


def faults(pid: int) -> int:
    """How many pages the process was given so far."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc is not glibc's")
def test_large_mail_uses_the_memory_again_that_the_mail_before_it_had(
    startServer: StartServer, database: Database
) -> None:
    upgrade(parseUrl(database.url))
    server = startServer(url=database.url)
    large = TEXT + (b"x" * 70 + b"\r\n") * 14_000  # 1 MiB
    send(server, 5, large)
    before = faults(server.process.pid)
    send(server, 10, large)
    assert faults(server.process.pid) - before < 10 * 50


# rspamd


class FakeRspamd(BaseHTTPRequestHandler):
    """Answers as rspamd does; what a message is to come to stands in its subject."""

    asked: list[tuple[Any, bytes]]

    def do_POST(self) -> None:
        octets = self.rfile.read(int(self.headers["Content-Length"]))
        self.asked.append((self.headers, octets))
        assert self.path == "/checkv2"
        action = re.search(rb"Subject: (.*?)\r", octets)[1].decode()  # type: ignore[index]
        said: dict[str, Any] = {"action": action, "score": 1.5}
        if action == "reject":
            said["messages"] = {"smtp_message": "Gtube pattern \u2013 no"}
        body = b"no JSON" if action == "nonsense" else json.dumps(said).encode()
        self.send_response(500 if action == "broken" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def rspamd() -> Iterator[ThreadingHTTPServer]:
    FakeRspamd.asked = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), FakeRspamd)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def answers(server: Any, *subjects: str) -> list[tuple[int, bytes]]:
    said = []
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.ehlo("client.example.org")
        for subject in subjects:
            client.mail("a@example.org")
            client.rcpt("b@example.com")
            client.rcpt("c@example.com")
            said.append(client.data(f"Subject: {subject}\r\n\r\nx\r\n"))
    return said


@pytest.fixture
def withRspamd(startServer: StartServer, tmp_path: Path) -> StartServer:
    """Starts a server that knows the policy; the copy is where its plugin cache may be written."""
    shutil.copytree(CONTRIB / "rspamd", tmp_path / "rspamd")
    path = environment()["PYTHONPATH"]

    def start(*args: str, **more: Any) -> Any:
        env = {"PYTHONPATH": f"{tmp_path / 'rspamd'}:{path}"}
        return startServer("--policy", ":".join(("rspamd", *args)), env=env, **more)

    return start


def test_rspamd_decides_what_is_refused(
    withRspamd: StartServer, rspamd: ThreadingHTTPServer
) -> None:
    server = withRspamd(f"port={rspamd.server_port}")
    said = answers(server, "no action", "add header", "reject", "soft reject", "greylist")
    assert [code for code, _ in said] == [250, 250, 550, 451, 451]
    assert said[2][1] == b"5.7.1 Gtube pattern ? no"
    assert [row[0] for row in server.rows("SELECT subject FROM messages ORDER BY id")] == [
        "no action",
        "add header",
    ]
    headers, octets = FakeRspamd.asked[0]
    assert octets == b"Subject: no action\r\n\r\nx\r\n"
    assert (headers["From"], headers["IP"]) == ("<a@example.org>", "127.0.0.1")
    assert headers.get_all("Rcpt") == ["<b@example.com>", "<c@example.com>"]
    assert headers["Helo"] == "client.example.org"


def test_mail_is_kept_where_rspamd_fails_unless_it_is_strict(
    withRspamd: StartServer, rspamd: ThreadingHTTPServer
) -> None:
    server = withRspamd(f"port={rspamd.server_port}")
    assert [code for code, _ in answers(server, "broken", "nonsense")] == [250, 250]
    server.waitFor("rspamd cannot be asked: .*status 500")
    strict = withRspamd(f"port={rspamd.server_port}", "strict=yes")
    assert [code for code, _ in answers(strict, "broken", "no action")] == [451, 250]


def test_rspamd_is_not_asked_about_large_messages(
    withRspamd: StartServer, rspamd: ThreadingHTTPServer
) -> None:
    server = withRspamd(f"port={rspamd.server_port}", "max-size=10")
    assert [code for code, _ in answers(server, "reject")] == [250]
    assert FakeRspamd.asked == []
