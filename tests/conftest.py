"""What all tests share: which of them run, and that nothing is skipped unnoticed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator

import pytest

from mariadb import _makeMariadb, _template, database, makeMariadb, mariadb

__all__ = ["_makeMariadb", "_template", "database", "makeMariadb", "mariadb"]

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
