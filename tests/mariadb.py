"""A MariaDB server of the tests' own: never the system's, nothing left behind."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pymysql
import pytest

from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade

LIMIT = 60.0  # seconds that a start may take on a busy machine
# As root the server gives up its rights, and its files must be that user's.
USER = "mysql" if os.getuid() == 0 else pwd.getpwuid(os.getuid()).pw_name
_RIGHTS = (f"--reuid={USER}", f"--regid={USER}", "--clear-groups") if os.getuid() == 0 else ()
PASSWORD = "p@ss:w/rd?%é"
_numbers = count(1)


def freePort() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


class Mariadb:
    """One `mariadbd` with its data in `place`; it listens on `socket` and on 127.0.0.1:`port`.

    Durability is that of a server as installed; only memory is small. `process` is None while
    it is down.
    """

    def __init__(self, program: str, place: Path, args: Sequence[str] = ()) -> None:
        self.place = place
        self.socket = str(place / "s")
        self.port = freePort()
        self.process: subprocess.Popen[bytes] | None = None
        self._command = [
            # It ends with the tests, also where those are killed.
            *("setpriv", "--pdeathsig", "KILL", *_RIGHTS),
            program,
            "--no-defaults",
            f"--datadir={place}/data",
            f"--tmpdir={place}/tmp",
            f"--socket={self.socket}",
            f"--pid-file={place}/pid",
            f"--log-error={place}/error.log",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=32M",
            "--innodb-log-file-size=16M",
            "--innodb-flush-log-at-trx-commit=1",
            "--performance-schema=OFF",
            *args,
        ]

    def start(self, *args: str) -> None:
        """Start it and wait until it answers."""
        self.process = subprocess.Popen(
            [*self._command, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + LIMIT
        while not self._isListening():
            if self.process.poll() is not None or time.monotonic() > deadline:
                pytest.fail((self.place / "error.log").read_text(errors="replace")[-3000:])
            time.sleep(0.02)
        self.connect().close()

    def _isListening(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(self.socket)
            except OSError:
                return False
        return True

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, in the ordinary way or by SIGKILL, also where it is paused."""
        process, self.process = self.process, None
        if process is not None and process.poll() is None:
            process.send_signal(signal.SIGCONT)
            process.send_signal(number)
            process.wait(LIMIT)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.stop(signal.SIGKILL)

    def pause(self) -> None:
        """Have it hang: connections are accepted by the kernel, and nobody answers."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def connect(self, **changes: Any) -> Any:
        """A connection of root's, each statement committed by itself."""
        return pymysql.connect(
            **{
                "unix_socket": self.socket,
                "user": "root",
                "autocommit": True,
                "charset": "utf8mb4",
                **changes,
            }
        )

    def query(self, sql: str, *parameters: Any, database: str | None = None) -> list[Any]:
        """What one statement of root's gives."""
        connection = self.connect(database=database)
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters or None)
                return list(cursor.fetchall())
        finally:
            connection.close()

    def makeDatabase(self) -> Database:
        """An empty database with a user of its own, who has the rights the manual names."""
        name = f"mail{next(_numbers)}"
        self.query(f"CREATE DATABASE `{name}`")
        return Database(self, name)


class Database:
    """A database on a server, and the user it is for: both have the same name."""

    def __init__(self, server: Mariadb, name: str) -> None:
        self.server = server
        self.name = name
        server.query(f"CREATE USER `{name}`@'%%' IDENTIFIED BY %s", PASSWORD)
        server.query(f"GRANT ALL ON `{name}`.* TO `{name}`@'%'")

    @property
    def url(self) -> str:
        """Over TCP."""
        return self.urlAt(f"127.0.0.1:{self.server.port}")

    @property
    def socketUrl(self) -> str:
        """Over the UNIX socket."""
        return self.urlAt("localhost") + f"?unix_socket={quote(self.server.socket, safe='')}"

    def urlAt(self, hosts: str) -> str:
        return f"mysql://{self.name}:{quote(PASSWORD, safe='')}@{hosts}/{self.name}"

    def query(self, sql: str, *parameters: Any) -> list[Any]:
        """What one statement of root's gives in this database."""
        return self.server.query(sql, *parameters, database=self.name)

    def connect(self) -> Any:
        """A connection of the user's."""
        return self.server.connect(user=self.name, password=PASSWORD.encode(), database=self.name)

    def setPassword(self, password: str = PASSWORD) -> None:
        self.server.query(f"ALTER USER `{self.name}`@'%%' IDENTIFIED BY %s", password)

    def disconnectAll(self) -> None:
        """End all connections of the user's."""
        self.server.query(f"KILL CONNECTION USER `{self.name}`@'%'")

    def drop(self) -> None:
        self.disconnectAll()  # one that a failed test has left open would hold up the DROP for ever
        self.server.query(f"DROP DATABASE IF EXISTS `{self.name}`")
        self.server.query(f"DROP USER IF EXISTS `{self.name}`@'%'")


MakeServer = Callable[..., Mariadb]


@pytest.fixture(scope="session")
def _template(tool: Callable[[str], str]) -> Iterator[Path]:
    """The files of a server that has just been installed, made once."""
    install, _ = tool("mariadb-install-db"), tool("mariadbd")
    # Not below pytest's own directory, which nobody but root may enter.
    place = Path(tempfile.mkdtemp(prefix="smtpstore-mariadb-"))
    place.chmod(0o711)
    subprocess.run(
        [
            *(install, "--no-defaults", f"--datadir={place}/template", f"--user={USER}"),
            *("--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=16M"),
            "--auth-root-authentication-method=normal",
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=2 * LIMIT,
    )
    yield place
    shutil.rmtree(place)


@pytest.fixture(scope="session")
def _makeMariadb(_template: Path, tool: Callable[[str], str]) -> Iterator[MakeServer]:
    servers: list[Mariadb] = []

    def make(*args: str) -> Mariadb:
        place = _template / f"{len(servers)}"
        (place / "tmp").mkdir(parents=True)
        place.chmod(0o711)
        shutil.copytree(_template / "template", place / "data")
        subprocess.run(["chown", "-R", USER, place], check=True)
        server = Mariadb(tool("mariadbd"), place, args)
        servers.append(server)
        server.start()
        return server

    yield make
    for server in servers:
        server.kill()


@pytest.fixture(scope="session")
def mariadb(_makeMariadb: MakeServer) -> Mariadb:
    """The server all tests share; whoever troubles it has one of his own."""
    return _makeMariadb()


@pytest.fixture
def makeMariadb(_makeMariadb: MakeServer) -> Iterator[MakeServer]:
    """Start servers for one test, with more arguments where it needs them."""
    servers: list[Mariadb] = []

    def make(*args: str) -> Mariadb:
        servers.append(_makeMariadb(*args))
        return servers[-1]

    yield make
    for server in servers:
        server.kill()
        shutil.rmtree(server.place)


@pytest.fixture
def database(mariadb: Mariadb) -> Iterator[Database]:
    """An empty database on the server all tests share."""
    made = mariadb.makeDatabase()
    yield made
    made.drop()


@pytest.fixture(scope="session")
def _shared(mariadb: Mariadb) -> Database:
    made = mariadb.makeDatabase()
    upgrade(parseUrl(made.url))
    return made


@pytest.fixture
def mailDatabase(_shared: Database) -> Database:
    """A database with its tables, empty; the same for all tests, as to make one takes a while."""
    connection = _shared.server.connect(database=_shared.name, autocommit=False)
    with connection.cursor() as cursor:
        cursor.execute("SHOW FULL TABLES WHERE Table_type = 'BASE TABLE'")
        names = {name for name, _ in cursor.fetchall()} - {"schema_version"}
        cursor.execute("SET foreign_key_checks = 0")
        for name in names:
            cursor.execute(f"DELETE FROM {name}")
        connection.commit()
        for name in names & {"users", "aliases", "mailing_groups", "queue", "events"}:
            cursor.execute(f"ALTER TABLE {name} AUTO_INCREMENT = 1")
    connection.close()
    return _shared
