"""A Galera cluster of the tests' own: MariaDB servers on loopback that are one database."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import pymysql
import pytest

from mariadb import LIMIT, PASSWORD, USER, Mariadb, freePort

PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")
NAME = "mail"
# A node that is gone is missed within a second or so, in place of six.
_TIMES = (
    "evs.keepalive_period=PT0.2S;evs.inactive_check_period=PT0.1S;evs.suspect_timeout=PT1S;"
    "evs.inactive_timeout=PT3S;evs.install_timeout=PT3S;evs.join_retrans_period=PT0.2S;"
    "gmcast.peer_timeout=PT1S"
)


class Node(Mariadb):
    """One of them. `peer` is the port the others find it at."""

    def __init__(self, program: str, place: Path) -> None:
        (place / "tmp").mkdir(parents=True)
        place.chmod(0o711)
        self.peer, ist, sst = freePort(), freePort(), freePort()
        provider = (
            f"base_host=127.0.0.1;base_port={self.peer};"
            f"gmcast.listen_addr=tcp://127.0.0.1:{self.peer};"
            f"ist.recv_addr=127.0.0.1:{ist};ist.recv_bind=127.0.0.1:{ist};"
            f"gcache.size=16M;{_TIMES}"
        )
        args = [
            *("--binlog-format=ROW", "--innodb-autoinc-lock-mode=2"),
            *("--wsrep-on=ON", f"--wsrep-provider={PROVIDER}", "--wsrep-cluster-name=tests"),
            *(f"--wsrep-node-name={place.name}", "--wsrep-node-address=127.0.0.1"),
            *("--wsrep-sst-method=rsync", f"--wsrep-sst-receive-address=127.0.0.1:{sst}"),
            f"--wsrep-provider-options={provider}",
        ]
        super().__init__(program, place, args)

    def found(self) -> None:
        """Start it as the first of a cluster."""
        self._startAs("--wsrep-cluster-address=gcomm://", "--wsrep-new-cluster")

    def join(self, nodes: Sequence[Node]) -> None:
        """Start it as one of these, and wait until it has all that they have."""
        peers = ",".join(f"127.0.0.1:{node.peer}" for node in nodes)
        # With its own position it asks for what it has missed, without it for everything.
        self._startAs(f"--wsrep-cluster-address=gcomm://{peers}", *self._position())

    def _startAs(self, *args: str) -> None:
        self.start(*args)
        self.awaitReady()

    def awaitReady(self) -> None:
        """Wait until it neither waits for others nor helps them to come back."""
        deadline = time.monotonic() + LIMIT
        while time.monotonic() < deadline:
            with suppress(pymysql.MySQLError):
                if self.status("local_state_comment") == "Synced" and self.status("ready") == "ON":
                    return
            time.sleep(0.05)
        pytest.fail((self.place / "error.log").read_text(errors="replace")[-3000:])

    def status(self, name: str) -> str:
        """One of the variables that begin with wsrep_."""
        [(_, value)] = self.query(f"SHOW STATUS LIKE 'wsrep_{name}'")
        return str(value)

    def _position(self) -> list[str]:
        command = [each for each in self._command if not each.startswith("--log-error")]
        done = subprocess.run(
            [*command, "--wsrep-recover"], capture_output=True, text=True, timeout=LIMIT
        )
        found = re.search(r"Recovered position:?\s*(\S+)", done.stderr)
        isKnown = found is not None and not found[1].endswith(":-1")
        return [f"--wsrep-start-position={found[1]}"] if found and isKnown else []

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it, and whatever it had started to bring itself up to date."""
        process = self.process
        super().stop(number)
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def mail(self, sql: str) -> list[tuple[str, ...]]:
        """What a statement gives once all that the others have committed is here too."""
        connection = self.connect(database=NAME)
        try:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION wsrep_sync_wait = 1")
                cursor.execute(sql)
                return list(cursor.fetchall())
        finally:
            connection.close()


class Cluster:
    """Three nodes, and on them an empty database with a user of its own."""

    def __init__(self, program: str, place: Path) -> None:
        self.nodes = [Node(program, place / f"node{number}") for number in range(1, 4)]

    def start(self, template: Path) -> None:
        """Start it, from the files of a server that has just been installed."""
        first, *others = self.nodes
        self._copy(template, first)
        first.found()
        first.stop()  # in the ordinary way: its copies know what they hold
        for node in others:
            self._copy(first.place / "data", node)
        first.found()
        first.query(f"CREATE DATABASE {NAME}")
        first.query(f"CREATE USER {NAME}@'%%' IDENTIFIED BY %s", PASSWORD)
        first.query(f"GRANT ALL ON {NAME}.* TO {NAME}@'%'")
        for node in others:  # not in threads: a node ends with the thread that has started it
            node.join(self.nodes)
        first.awaitReady()

    def _copy(self, data: Path, node: Node) -> None:
        ignored = shutil.ignore_patterns("galera.cache", "gvwstate.dat")
        shutil.copytree(data, node.place / "data", ignore=ignored)
        subprocess.run(["chown", "-R", USER, node.place], check=True)

    def url(self, *nodes: Node) -> str:
        """Of these, in this order; of all."""
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes or self.nodes)
        return f"mysql://{NAME}:{quote(PASSWORD, safe='')}@{hosts}/{NAME}"

    def stop(self) -> None:
        for node in self.nodes:
            node.kill()


@pytest.fixture
def cluster(_template: Path, tool: Callable[[str], str]) -> Iterator[Cluster]:
    if not PROVIDER.exists():
        pytest.skip("galera-4 is not installed; Debian's mariadb-server brings it")
    tool("rsync")
    place = _template / "galera"
    place.mkdir(mode=0o711)
    made = Cluster(tool("mariadbd"), place)
    try:
        made.start(_template / "template")
        yield made
    finally:
        made.stop()
        shutil.rmtree(place)
