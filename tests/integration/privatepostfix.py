"""A Postfix of its own: its configuration, queue and log in a directory that is thrown away."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from integration.realserver import LIMIT

_MAIN = """
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
maillog_file = {directory}/log
maillog_file_prefixes = {directory}
myhostname = front.example.com
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
alias_maps =
smtputf8_enable = yes
{more}
"""
_MASTER = """
127.0.0.1:{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
smtp unix - - n - - smtp
relay unix - - n - - smtp
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
lmtp unix - - n - - lmtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
{more}
"""


class PrivatePostfix:
    """A running Postfix that takes mail on `port`; only root can have one.

    `main` and `services` are added to main.cf and master.cf, `files` stand beside them; in each,
    `{directory}` is where they are. It is stopped, and all of it removed, by `stop`.
    """

    def __init__(
        self, main: str = "", services: str = "", files: Mapping[str, str] | None = None
    ) -> None:
        program = shutil.which("postfix", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if program is None or os.geteuid() != 0:
            pytest.skip("a Postfix of one's own needs postfix (see tests/install-tools) and root")
        self._program = program
        self.directory = Path(tempfile.mkdtemp(prefix="postfix", dir="/tmp"))
        self.directory.chmod(0o755)  # its processes are several users
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        (self.directory / "queue").mkdir()
        (self.directory / "data").mkdir()
        shutil.chown(self.directory / "data", "postfix")
        written = {
            "main.cf": _MAIN.replace("{more}", main),
            "master.cf": _MASTER.replace("{more}", services).replace("{port}", str(self.port)),
            **(files or {}),
        }
        for name, text in written.items():
            (self.directory / name).write_text(text.replace("{directory}", str(self.directory)))
        self._run("start")
        self.waitFor("daemon started")

    def _run(self, verb: str) -> None:
        done = subprocess.run(
            [self._program, "-c", str(self.directory), verb],
            capture_output=True,
            text=True,
            timeout=3 * LIMIT,
        )
        assert done.returncode == 0, done.stderr + self.log

    @property
    def log(self) -> str:
        path = self.directory / "log"
        return path.read_text() if path.exists() else ""

    def waitFor(self, pattern: str, limit: float = 3 * LIMIT) -> None:
        """Until the log has it; Postfix tells in no other way."""
        deadline = time.monotonic() + limit
        while not re.search(pattern, self.log):
            assert time.monotonic() < deadline, f"no {pattern!r} in\n{self.log}"
            time.sleep(0.02)

    def stop(self) -> None:
        self._run("stop")
        shutil.rmtree(self.directory)
