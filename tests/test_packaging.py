"""Packages: what is built holds what runs, and an installed one runs without the checkout."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
SQL = {
    f"mailsrv/schema/{file.relative_to(ROOT / 'schema')}" for file in ROOT.glob("schema/*/*.sql")
}
MODULES = {str(file.relative_to(ROOT)) for file in ROOT.glob("mailsrv/**/*.py")}
WANTED = {*SQL, *MODULES, "mailsrv/py.typed", "twisted/plugins/smtpstore_plugin.py"}


def run(*command: str | Path, cwd: Path) -> str:
    """Run it far from the checkout: nothing of ours is importable but what is installed."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy to build in, so that no build/ and egg-info are left in the tree, or found there."""
    copy = tmp_path_factory.mktemp("build") / "checkout"
    leave = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".coverage*"
    )
    shutil.copytree(ROOT, copy, symlinks=True, ignore=leave)
    return copy


@pytest.fixture(scope="module")
def built(checkout: Path) -> tuple[Path, Path]:
    """The sdist, and the wheel that was made out of it."""
    python = (sys.executable, "-m", "build", "--no-isolation", checkout)
    run(*python, "--outdir", checkout / "dist", cwd=checkout.parent)
    [sdist] = checkout.glob("dist/*.tar.gz")
    [wheel] = checkout.glob("dist/*.whl")
    return sdist, wheel


def test_the_sdist_holds_everything_as_real_files(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[0]) as archive:
        files = {
            member.name.partition("/")[2]: member
            for member in archive.getmembers()
            if not member.isdir()
        }
    assert set(files) >= {*WANTED, "Makefile", "README.rst", "LICENSE", "tests/test_packaging.py"}
    assert not [name for name, member in files.items() if not member.isfile()]
    assert "twisted/__init__.py" not in files


def test_the_wheel_holds_what_runs_and_no_package_of_a_common_name(
    built: tuple[Path, Path],
) -> None:
    with zipfile.ZipFile(built[1]) as archive:
        names = set(archive.namelist())
    assert names >= WANTED
    tops = {name.partition("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"mailsrv", "twisted"}
    assert {name for name in names if name.startswith("twisted/")} == {
        "twisted/plugins/smtpstore_plugin.py"
    }


@pytest.mark.parametrize("kind", ["wheel", "sdist", "editable"])
def test_what_is_installed_is_listed_by_twistd_and_makes_its_tables(
    kind: str, checkout: Path, built: tuple[Path, Path], tmp_path: Path
) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    # What we depend on is that of the tests: only we ourselves are installed.
    site = Path(
        run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=tmp_path).strip()
    )
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    what = {"wheel": [built[1]], "sdist": [built[0]], "editable": ["--editable", checkout]}[kind]
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    run(*pip, "--ignore-installed", "--no-build-isolation", *what, cwd=tmp_path)

    place = run(python, "-c", "import mailsrv; print(mailsrv.__file__)", cwd=tmp_path)
    assert place.startswith(str(checkout if kind == "editable" else home))
    twistd = (python, "-c", "from twisted.scripts.twistd import run; run()")
    assert "smtpstore" in run(*twistd, "--help", cwd=tmp_path)
    assert "--max-recipients=N" in run(*twistd, "smtpstore", "--help", cwd=tmp_path)
    run(home / "bin" / "smtpstore", "init", "--db", "sqlite:mail.db", cwd=tmp_path)
    assert (tmp_path / "mail.db").stat().st_size > 0


# Without the extras


def needed(name: str) -> Iterator[metadata.Distribution]:
    """A distribution, and all that a plain install of it brings."""
    found = metadata.distribution(name)
    yield found
    for each in found.requires or ():
        requirement = Requirement(each)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield from needed(requirement.name)


@pytest.fixture(scope="module")
def plain(
    checkout: Path, built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The programs of an environment as `pip install .` makes it: nothing of the extras is there."""
    home = tmp_path_factory.mktemp("plain") / "venv"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    run(*pip, "--no-index", built[1], cwd=checkout.parent)
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(run(python, "-c", ask, cwd=checkout.parent).strip())
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for line in config["options"]["install_requires"].split():
        for found in needed(Requirement(line).name):
            for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
                link(Path(str(found.locate_file(top))), site / top)
    return home / "bin"


def link(source: Path, target: Path) -> None:
    """Have it there too; a folder that several share, as twisted and our plugin, is one of links."""
    if not target.exists():
        target.symlink_to(source)
    elif source.is_dir() and not target.is_symlink():
        for each in source.iterdir():
            link(each, target / each.name)


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--db", "mysql://mail:secret@127.0.0.1/mail"], "run: pip install 'smtpstore[mysql]'"),
        (["--tls", "auto"], "pip install 'smtpstore[tls]'"),
        (["--smart-host", "smtps://relay.example.com"], "pip install 'smtpstore[tls]'"),
        (["--webhook", "http://127.0.0.1:9/mail"], "pip install 'smtpstore[webhook]'"),
        (["--http", "0"], "pip install 'smtpstore[web]'"),
    ],
)
def test_an_extra_that_is_missing_is_named_by_the_server(
    plain: Path, tmp_path: Path, args: list[str], says: str
) -> None:
    twistd = (plain / "python", "-c", "from twisted.scripts.twistd import run; run()")
    free = ("--port", "tcp:0:interface=127.0.0.1")
    line = complaint(*twistd, "-n", "smtpstore", *free, *args, cwd=tmp_path)
    assert line.endswith(says)


def test_an_extra_that_is_missing_is_named_by_the_command(plain: Path, tmp_path: Path) -> None:
    smtpstore = plain / "smtpstore"
    line = complaint(smtpstore, "init", "--db", "mysql://m:secret@127.0.0.1/m", cwd=tmp_path)
    assert line.endswith("run: pip install 'smtpstore[mysql]'")
    (tmp_path / "m.eml").write_bytes(b"Subject: x\r\n\r\n")
    send = ("send", "--server", "127.0.0.1:9", "--user", "bob", "--from", "a@b.c", "--to", "d@e.f")
    line = complaint(smtpstore, *send, "m.eml", cwd=tmp_path, SMTPSTORE_PASSWORD="secret")
    assert line.endswith("pip install 'smtpstore[tls]'")


def test_the_server_of_a_plain_install_starts(plain: Path, tmp_path: Path) -> None:
    """As the README has it; only the port is another one."""
    readme = (ROOT / "README.rst").read_text("utf-8")
    [words] = re.findall(r"^    \$ twistd -n smtpstore --port 2525 (.*)$", readme, re.MULTILINE)
    program = (plain / "python", "-c", "from twisted.scripts.twistd import run; run()")
    args = ("-n", "--pidfile=", "smtpstore", "--port", "tcp:0:interface=127.0.0.1", *words.split())
    with subprocess.Popen(
        list(map(str, (*program, *args))), cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        try:
            lines = iter(server.stdout.readline, "")
            assert any("Local domains: example.com; add a user with" in line for line in lines)
        finally:
            server.terminate()
    assert (tmp_path / "mail.db").exists()


def test_a_plain_install_keeps_mail(plain: Path, tmp_path: Path) -> None:
    run(plain / "smtpstore", "init", cwd=tmp_path)
    run(plain / "smtpstore", "user", "add", "bob@example.com", cwd=tmp_path)
    (tmp_path / "m.eml").write_bytes(b"Subject: Hello\r\n\r\nHi.\r\n")
    run(plain / "smtpstore", "import", "m.eml", "--to", "bob@example.com", cwd=tmp_path)
    assert "Hello" in run(plain / "smtpstore", "message", "list", cwd=tmp_path)


def complaint(*command: str | Path, cwd: Path, **more: str) -> str:
    """The one line of what cannot be done."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env={**env, **more}, capture_output=True, text=True,
        timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    [line] = done.stderr.splitlines()
    assert line.startswith("smtpstore: ")
    assert "secret" not in line
    return line
