"""Each benchmark's smallest case, so that none of them rots; nothing here looks at times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
OURS = ("smtpstore-sqlite", "smtpstore-mariadb")
TARGETS = (
    *OURS, "workers-sqlite", "workers-mariadb", "prototype-sqlite", "prototype-mariadb", "bare", "smtp-sink", "postfix", "aiosmtpd",
    "twisted.mail", "npm-smtp-server",
)  # fmt: skip
CASES = ("20-new", "100-new", "100-open", "500-open", "10-large")

Bench = Callable[..., dict[str, Any]]


def run(*args: str, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "benchmarks" / "run.py"), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, **more)


@pytest.fixture
def bench(tool: Callable[[str], str], tmp_path: Path) -> Bench:
    """Run the command to its end; what it wrote as JSON, its table as `table`."""
    tool("smtp-source")

    def measure(*args: str) -> dict[str, Any]:
        report = tmp_path / "report.json"
        done = run("--rounds", "1", "--messages", "4", "--json", str(report), *args)
        assert done.returncode == 0, done.stderr
        return {**json.loads(report.read_text()), "table": done.stdout, "said": done.stderr}

    return measure


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_takes_the_smallest_case_or_says_what_it_lacks(
    target: str, bench: Bench
) -> None:
    report = bench("--target", target, "--case", "20-new")
    if target in report["skipped"]:
        assert f"{target}: skipped: {report['skipped'][target]}" in report["said"]
        pytest.skip(f"{target}: {report['skipped'][target]}")
    [result] = report["runs"]
    assert (result["target"], result["messages"]) == (target, 4)
    assert result["memory"] > 1 << 20
    assert f"  {target} " in report["table"]


def test_every_case_is_run_by_every_target_and_compared(bench: Bench) -> None:
    report = bench("--target", "smtpstore-sqlite", "--target", "bare")
    assert {(row["case"], row["target"]) for row in report["summary"]} == {
        (case, target) for case in CASES for target in ("smtpstore-sqlite", "bare")
    }
    for row in report["summary"]:
        assert row["ratios"]["smtpstore-sqlite"] > 0
        assert row["least"] <= row["rate"] <= row["most"]


@pytest.mark.parametrize(
    ("words", "name", "figure"),
    [
        (("--idle", "20"), "idle", "octets each"),
        (("--grow", "20"), "growth", "end to start"),
        (("--latency", "1"), "latency", "p99 ms"),
    ],
)
def test_the_figures_of_their_own_are_measured(
    words: tuple[str, str], name: str, figure: str, bench: Bench
) -> None:
    report = bench("--target", "smtpstore-sqlite", *words)
    [row] = report[name]
    assert row["target"] == "smtpstore-sqlite"
    assert figure in row
    assert report["runs"] == []


def test_a_picture_is_drawn(bench: Bench, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "bench.svg"
    bench("--target", "bare", "--case", "20-new", "--picture", str(picture))
    assert "<svg" in picture.read_text()


def test_what_is_missing_is_said_and_the_others_are_left(tmp_path: Path) -> None:
    done = run("--list", env={"PATH": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.returncode == 0, done.stderr
    assert "node, npm not installed" in done.stderr
    assert "bare " in done.stdout


def test_nothing_is_left_behind(bench: Bench, tmp_path: Path) -> None:
    place = tmp_path / "place"
    place.mkdir()
    place.chmod(0o711)
    bench("--target", "prototype-sqlite", "--case", "20-new", "--dir", str(place))
    assert list(place.iterdir()) == []


def test_a_run_that_fails_is_no_success(tmp_path: Path) -> None:
    done = run("--target", "bare", "--dir", str(tmp_path / "nowhere"))
    assert done.returncode != 0


def test_a_target_that_cannot_take_a_case_is_named(bench: Bench) -> None:
    report = bench("--target", "postfix", "--case", "500-open")
    if "postfix" in report["skipped"]:
        pytest.skip(report["skipped"]["postfix"])
    assert "500-open postfix: skipped: it serves 100 connections" in report["said"]
    assert report["runs"] == []
