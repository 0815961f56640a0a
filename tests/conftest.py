"""What all tests share: which of them run, and that nothing is skipped unnoticed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mariadb import (
    Database,
    _makeMariadb,
    _shared,
    _template,
    database,
    mailDatabase,
    makeMariadb,
    mariadb,
)

# The fixtures of that module.
__all__ = [
    "_makeMariadb",
    "_shared",
    "_template",
    "database",
    "mailDatabase",
    "makeMariadb",
    "mariadb",
]

IS_CI = os.environ.get("CI", "").lower() in ("1", "true", "yes")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--torture", action="store_true", help="run the long tests too")
    parser.addoption(
        "--db",
        default="sqlite,mysql",
        help="the databases that end-to-end tests are run on (default: sqlite,mysql)",
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left = set()
    if not config.getoption("--torture"):
        left.add("torture")
    if os.geteuid() != 0:
        left.add("root")
    unwanted = {item for item in items for name in left if item.get_closest_marker(name)}
    config.hook.pytest_deselected(items=unwanted)
    items[:] = [item for item in items if item not in unwanted]


def _failWhereSkipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """In CI a test that did not run is a test that failed."""
    if IS_CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, and CI takes no skips: {report.longrepr}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Iterator[None]:
    report = yield
    _failWhereSkipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Iterator[None]:
    report = yield
    _failWhereSkipped(report)
    return report


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a program the tests talk with; a test whose program is missing is skipped."""

    def find(name: str) -> str:
        path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if path is None:
            pytest.skip(f"{name} is not installed, see tests/install-tools")
        return path

    return find


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """What is marked `databases` is run on each kind that --db names, or on those of the mark."""
    mark = metafunc.definition.get_closest_marker("databases")
    if mark is not None and "databaseKind" in metafunc.fixturenames:
        kinds = mark.args or metafunc.config.getoption("db").split(",")
        metafunc.parametrize("databaseKind", kinds, indirect=True)


@pytest.fixture
def databaseKind(request: pytest.FixtureRequest) -> str:
    """The kind of database a test is run on: sqlite, or mysql (a MariaDB)."""
    return getattr(request, "param", "sqlite")


@pytest.fixture
def makeUrl(databaseKind: str, request: pytest.FixtureRequest) -> Callable[[Path], str]:
    """The URL of a database with its tables, another at each call, given a directory for its file.

    A SQLite file is left to whoever opens it to make.
    """
    made: list[Database] = []

    def make(directory: Path) -> str:
        if databaseKind == "sqlite":
            return f"sqlite:{directory / 'mail.db'}"
        # The one that is there already, then others.
        if not made:
            made.append(request.getfixturevalue("mailDatabase"))
        else:
            made.append(request.getfixturevalue("mariadb").makeDatabase())
            request.addfinalizer(made[-1].drop)
            upgrade(parseUrl(made[-1].url))
        return made[-1].url

    return make
