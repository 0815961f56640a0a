"""What the runs gave: a table for people, JSON for programs, a picture."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from cases import CASES, Result
from targets import TARGETS

MIB = 1 << 20


def machine() -> dict[str, Any]:
    """What figures are worth nothing without."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "cores": os.cpu_count(),
        "processor": models[0] if models else platform.processor(),
        "system": platform.platform(),
        "python": f"{platform.python_version()}, {sys.base_prefix}",
        "load": os.getloadavg()[0],
    }


def ratio(ours: Iterable[Result], theirs: Iterable[Result]) -> float | None:
    """How many times as fast, as the median of the rounds that both ran."""
    rates = {result.round: result.rate for result in theirs}
    both = [result.rate / rates[result.round] for result in ours if result.round in rates]
    return median(both) if both else None


def summary(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A row for each case and target: medians, with the least and the most."""
    rows = []
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.case, result.target), []).append(result)
    for (case, target), runs in groups.items():
        rates = [run.rate for run in runs]
        ratios = {
            our: ratio(groups[case, our], runs)
            for our in TARGETS
            if TARGETS[our].isOurs and (case, our) in groups
        }
        rows.append(
            {
                "case": case,
                "target": target,
                "rate": median(rates),
                "least": min(rates),
                "most": max(rates),
                "cpu": median(run.cpu for run in runs),
                "databaseCpu": median(run.databaseCpu for run in runs),
                "memory": max(run.memory for run in runs),
                "ratios": ratios,
            }
        )
    return rows


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows as text, a block for each case."""
    lines = []
    for case in dict.fromkeys(row["case"] for row in rows):
        lines += [
            f"{case}: {CASES[case].what}",
            f"  {'':18}{'messages a second':^24}{'as fast as this':^18}"
            f"{'CPU s / 1,000':^16}{'peak':>8}",
            f"  {'target':18}{'median':>8}{'min':>8}{'max':>8}{'SQLite':>9}{'MariaDB':>9}"
            f"{'server':>8}{'database':>9}{'MiB':>7}",
        ]
        lines += [_line(row) for row in rows if row["case"] == case]
        lines.append("")
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    ratios = [row["ratios"].get(f"smtpstore-{name}") for name in ("sqlite", "mariadb")]
    shown = [f"{value:>7.2f} ×" if value else f"{'–':>9}" for value in ratios]
    database = f"{row['databaseCpu']:>9.2f}" if row["databaseCpu"] else f"{'–':>9}"
    return (
        f"  {row['target']:18}{row['rate']:>8,.0f}{row['least']:>8,.0f}{row['most']:>8,.0f}"
        f"{''.join(shown)}{row['cpu']:>8.2f}{database}{row['memory'] / MIB:>7.0f}"
    )


def writeJson(path: str, report: dict[str, Any], results: Sequence[Result]) -> None:
    """Everything, single runs included."""
    runs = [{**asdict(result), "rate": result.rate} for result in results]
    Path(path).write_text(json.dumps({**report, "runs": runs}, indent=1) + "\n")


def drawPicture(path: str, rows: Sequence[dict[str, Any]]) -> str:
    """A panel for each case: the medians as bars, least to most as a line; what hinders, or ''."""
    try:
        import matplotlib
    except ImportError:
        return "matplotlib not installed"
    matplotlib.use("Agg")
    from matplotlib import pyplot

    cases = list(dict.fromkeys(row["case"] for row in rows))
    figure, panels = pyplot.subplots(
        len(cases), 1, figsize=(9, 0.6 + 3.2 * len(cases)), squeeze=False, layout="constrained"
    )
    for case, panel in zip(cases, panels[:, 0], strict=True):
        shown = [row for row in rows if row["case"] == case][::-1]
        rates = [row["rate"] for row in shown]
        spread = [
            [row["rate"] - row["least"] for row in shown],
            [row["most"] - row["rate"] for row in shown],
        ]
        ours = ["tab:blue" if TARGETS[row["target"]].isOurs else "silver" for row in shown]
        panel.barh([row["target"] for row in shown], rates, xerr=spread, color=ours)
        panel.set_title(CASES[case].what, loc="left")
        panel.set_xlabel("messages a second")
    figure.savefig(path)
    return ""
