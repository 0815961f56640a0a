"""The peer: Postfix as it is shipped, its queue synced to the disk, delivery into a Maildir.

An instance of its own: configuration, queue, log and mail lie in the bench's directory, and it
listens on loopback only. It needs root, as Postfix does; the system's instance is not touched.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from privatemariadb import find
from processes import BenchError, Running, freePort, isListening, lastLine, waitUntil

DOMAIN = "bench.example"
_NOBODY = 65534

# What is not shipped: names, places, one virtual domain, and a log, which others write too.
_MAIN = """\
compatibility_level = 3.6
queue_directory = {place}/queue
data_directory = {place}/data
maillog_file = {place}/mail.log
maillog_file_prefixes = {place}
myhostname = host.{domain}
mydestination =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
mynetworks = 127.0.0.0/8
alias_maps =
alias_database =
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {place}
virtual_mailbox_maps = static:mail/
virtual_mailbox_limit = 0
virtual_uid_maps = static:{nobody}
virtual_gid_maps = static:{nobody}
message_size_limit = 67108864
"""
_MASTER = """\
127.0.0.1:{port} inet n - n - - smtpd
pickup   unix  n - n 60 1 pickup
cleanup  unix  n - n - 0 cleanup
qmgr     unix  n - n 300 1 qmgr
rewrite  unix  - - n - - trivial-rewrite
bounce   unix  - - n - 0 bounce
defer    unix  - - n - 0 bounce
trace    unix  - - n - 0 bounce
verify   unix  - - n - 1 verify
flush    unix  n - n 1000? 0 flush
proxymap unix  - - n - - proxymap
virtual  unix  - n n - - virtual
error    unix  - - n - - error
retry    unix  - - n - - error
anvil    unix  - - n - 1 anvil
scache   unix  - - n - 1 scache
postlog  unix-dgram n - n - 1 postlogd
"""


def missing() -> str:
    """Why it cannot run here, if it cannot."""
    if find("postfix") is None:
        return "postfix is not installed"
    return "" if os.getuid() == 0 else "postfix starts as root only"


@contextmanager
def postfix(place: Path) -> Iterator[Running]:
    """Run it; `settle` waits until all mail is delivered."""
    config = _configure(place, port := freePort())
    _control(config, "start")
    try:
        waitUntil(lambda: isListening(port), "Postfix to listen")
        pid = int((place / "queue" / "pid" / "master.pid").read_text())

        def settle() -> None:
            waitUntil(lambda: not _hasMail(place / "queue"), "Postfix to deliver", 600)

        yield Running(port, pid, settle)
    finally:
        _control(config, "stop")


def _configure(place: Path, port: int) -> Path:
    config = place / "config"
    for name in ("config", "queue", "data", "mail"):
        (place / name).mkdir()
    shutil.chown(place / "data", "postfix")
    os.chown(place / "mail", _NOBODY, _NOBODY)
    values = {"place": place, "domain": DOMAIN, "nobody": _NOBODY, "port": port}
    (config / "main.cf").write_text(_MAIN.format(**values))
    (config / "master.cf").write_text(_MASTER.format(**values))
    return config


def _control(config: Path, word: str) -> None:
    log = config.parent / "control.log"
    with log.open("ab") as output:
        done = subprocess.run(
            [str(find("postfix")), "-c", str(config), word], stdout=output, stderr=output
        )
    if done.returncode:
        mail = config.parent / "mail.log"
        raise BenchError(f"postfix {word}: {lastLine(mail if mail.exists() else log)}")


def _hasMail(queue: Path) -> bool:
    return any(
        files
        for name in ("maildrop", "incoming", "active", "deferred")
        for _, _, files in os.walk(queue / name)
    )
