"""What is measured: this server, the ceilings, and the peers. Each run has a fresh one."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from privatemariadb import find
from privatepostfix import DOMAIN, postfix
from privatepostfix import missing as lacksPostfix
from processes import BenchError, Running, end, freePort, isListening, started, waitUntil

HERE = Path(__file__).parent
ROOT = HERE.parent
RECIPIENT = f"user@{DOMAIN}"
SENDER = f"sender@{DOMAIN}"
PACKAGES = ("smtp-server@3.21.6", "mysql2@3.24.6")
Start = Callable[..., AbstractContextManager[Running]]


@dataclass(frozen=True, slots=True)
class Target:
    """A server to be measured.

    `start(place, url)` runs it in a directory of its own, over a database of its own, ours with
    more options behind; `missing()` says what it lacks here, '' for nothing. `database`: sqlite,
    mysql or ''. `mostOpen`: the connections it serves at a time.
    """

    name: str
    what: str
    start: Start
    database: str = ""
    missing: Callable[[], str] = lambda: ""
    isOurs: bool = False
    mostOpen: int = 1000


def _environment() -> Mapping[str, str]:
    paths = (str(ROOT), sysconfig.get_path("purelib"), os.environ.get("PYTHONPATH", ""))
    return {"PYTHONPATH": os.pathsep.join(filter(None, paths))}


@contextmanager
def smtpstore(place: Path, url: str, *options: str) -> Iterator[Running]:
    """The whole server as a user has it: a local domain, so that every recipient is looked up."""
    env = {**_environment(), "SMTPSTORE_DB": url}
    for words in (["init"], ["user", "add", RECIPIENT]):
        _run([sys.executable, "-c", "from mailsrv.cli import main; main()", *words], env)
    command = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]
    command += [
        "-n",
        "--pidfile=",
        "smtpstore",
        "--port",
        "0",
    ]  # a bare number, so that the backlog is ours
    command += ["--http", "", "--domain", DOMAIN, "--max-size", str(1 << 26), *options]
    with started(command, place, r"SMTP listens on 127\.0\.0\.1:(\d+)", env) as running:
        yield running


@contextmanager
def twoWorkers(place: Path, url: str, *options: str) -> Iterator[Running]:
    """The same in two processes; the warm-up waits for them."""
    with smtpstore(place, url, "--workers", "2", *options) as running:
        yield running


def _run(command: list[str], env: Mapping[str, str], cwd: Path | None = None) -> None:
    done = subprocess.run(
        command, env={**os.environ, **env}, cwd=cwd, capture_output=True, text=True, timeout=300
    )
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise BenchError(f"{Path(command[0]).name}: {lines[-1] if lines else done.returncode}")


def script(name: str) -> Start:
    """What starts a Python script beside this one."""

    def start(place: Path, url: str) -> AbstractContextManager[Running]:
        return started([sys.executable, HERE / name, *([url] if url else [])], place)

    return start


@contextmanager
def smtpServer(place: Path, url: str) -> Iterator[Running]:
    """smtp-server under Node.js; npm has put its packages into a cache of ours."""
    packages = {"NODE_PATH": str(_nodePackages())}
    with started(["node", HERE / "smtpserver_mysql2.cjs", url], place, env=packages) as running:
        yield running


def _nodePackages() -> Path:
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    place = caches / "smtpstore-bench" / "-".join(PACKAGES)
    modules = place / "node_modules"
    if not modules.exists():
        place.mkdir(parents=True, exist_ok=True)
        npm = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        _run([*npm, "--prefix", str(place), *PACKAGES], {}, place)
    return modules


@contextmanager
def smtpSink(place: Path, _url: str) -> Iterator[Running]:
    """Postfix's own sink."""
    port = freePort()
    rights = ["-u", "nobody"] if os.getuid() == 0 else []
    command = [str(find("smtp-sink")), *rights, f"127.0.0.1:{port}", "1024"]
    process = subprocess.Popen(command, cwd=place)
    try:
        waitUntil(lambda: isListening(port), "smtp-sink to listen")
        yield Running(port, process.pid)
    finally:
        end(process)


def startPostfix(place: Path, _url: str) -> AbstractContextManager[Running]:
    """Postfix keeps its mail in files."""
    return postfix(place)


def needs(*names: str) -> Callable[[], str]:
    """Which of these modules or programs are missing: `python:` goes before a module."""

    def missing() -> str:
        lost = [name for name in names if not _isHere(name)]
        return f"{', '.join(lost).replace('python:', '')} not installed" if lost else ""

    return missing


def _isHere(name: str) -> bool:
    kind, _, module = name.rpartition(":")
    return find_spec(module) is not None if kind else find(name) is not None


_COMMIT_EACH = "one COMMIT a message"
_aiosmtpd, _twistedMail = needs("python:aiosmtpd"), needs("python:twisted.mail")
_ALL = (
    Target("smtpstore-sqlite", "this server, SQLite", smtpstore, "sqlite", isOurs=True),
    Target("smtpstore-mariadb", "this server, MariaDB", smtpstore, "mysql", isOurs=True),
    Target("workers-sqlite", "the same, --workers 2", twoWorkers, "sqlite", isOurs=True),
    Target("workers-mariadb", "the same, --workers 2", twoWorkers, "mysql", isOurs=True),
    Target("prototype-sqlite", "group commit, nothing parsed", script("prototype.py"), "sqlite"),
    Target("prototype-mariadb", "the same, MariaDB", script("prototype.py"), "mysql"),
    Target("bare", "Twisted, content dropped", script("bare.py")),
    Target("smtp-sink", "C, content dropped", smtpSink, "", needs("smtp-sink")),
    Target("postfix", "queue fsync, Maildir", startPostfix, "", lacksPostfix, mostOpen=100),
    Target("aiosmtpd", _COMMIT_EACH, script("aiosmtpd_mysql.py"), "mysql", _aiosmtpd),
    Target("twisted.mail", _COMMIT_EACH, script("twistedmail_adbapi.py"), "mysql", _twistedMail),
    Target("npm-smtp-server", _COMMIT_EACH, smtpServer, "mysql", needs("node", "npm")),
)
TARGETS = {target.name: target for target in _ALL}
