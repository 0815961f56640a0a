"""A MariaDB of the bench's own: stock settings, its data in the bench's directory."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pymysql

from peertables import MYSQL_TABLES
from processes import BenchError, end, freePort, waitUntil

PASSWORD = "bench"
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Mariadb:
    """A running server: its process and its port."""

    pid: int
    port: int
    socket: str

    def query(self, *statements: str, database: str | None = None) -> list[tuple[object, ...]]:
        """What the last of some statements of root's gives."""
        connection = pymysql.connect(
            unix_socket=self.socket, user="root", database=database, autocommit=True
        )
        with connection, connection.cursor() as txn:
            for statement in statements:
                txn.execute(statement)
            return list(txn.fetchall())

    @contextmanager
    def database(self, forPeer: bool) -> Iterator[str]:
        """The URL of a database for one run; `forPeer`: with the peers' tables in it."""
        name = f"bench{next(_numbers)}"
        self.query(f"CREATE DATABASE {name}", f"GRANT ALL ON {name}.* TO bench@'%'")
        if forPeer:
            self.query(*MYSQL_TABLES, database=name)
        try:
            yield f"mysql://bench:{PASSWORD}@127.0.0.1:{self.port}/{name}"
        finally:
            self.query(f"DROP DATABASE {name}")


def missing() -> str:
    """The program that is not here, if one is not."""
    programs = ("mariadbd", "mariadb-install-db")
    return ", ".join(name for name in programs if find(name) is None)


def find(name: str) -> str | None:
    """Where a program is, the places of servers included."""
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextmanager
def mariadb(place: Path) -> Iterator[Mariadb]:
    """Run one. Of what touches speed nothing is set but innodb_flush_log_at_trx_commit, to the
    1 it has anyway: whoever runs the bench shall see it."""
    user = "mysql" if os.getuid() == 0 else getpass.getuser()
    common = ("--no-defaults", f"--datadir={place}/data", f"--user={user}")
    place.mkdir()
    install = [find("mariadb-install-db"), *common, "--skip-test-db", "--skip-name-resolve"]
    with (place / "log").open("wb") as log:
        subprocess.run(
            [*map(str, install), "--auth-root-authentication-method=normal"],
            stdout=log,
            stderr=log,
            check=True,
        )
    if os.getuid() == 0:
        shutil.chown(place, user)
    port, socket = freePort(), f"{place}/s"
    process = subprocess.Popen(
        [
            *(str(find("mariadbd")), *common, f"--socket={socket}", f"--port={port}"),
            *("--bind-address=127.0.0.1", "--skip-name-resolve", f"--pid-file={place}/pid"),
            *(f"--log-error={place}/error.log", f"--tmpdir={place}"),
            "--innodb-flush-log-at-trx-commit=1",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Mariadb(process.pid, port, socket)

    def answers() -> bool:
        if process.poll() is not None:
            raise BenchError(f"mariadbd: see {place}/error.log")
        try:
            server.query("SELECT 1")
        except pymysql.OperationalError:
            return False
        return True

    try:
        waitUntil(answers, "mariadbd to answer")
        server.query(f"CREATE USER bench@'%' IDENTIFIED BY '{PASSWORD}'")
        yield server
    finally:
        end(process)
