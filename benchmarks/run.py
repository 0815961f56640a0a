"""Measure this server beside its peers and its ceilings: `make bench`.

Rounds are interleaved: in each, every target runs the case once, after a fresh start over a fresh
database. What cannot run here is left out, with a line that says why.
"""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from typing import Any

from cases import CASES, Bench, Case, Result, bench
from growth import growth
from idle import idle
from latency import latency
from privatemariadb import find, missing
from processes import BenchError, raiseLimits
from report import drawPicture, machine, summary, table, writeJson
from targets import TARGETS, Target


def parseArguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench ARGS='…'", description=__doc__)
    several: dict[str, Any] = {"action": "append", "default": [], "metavar": "NAME"}
    parser.add_argument("--case", choices=CASES, help=f"of {', '.join(CASES)} (+)", **several)
    parser.add_argument("--target", choices=TARGETS, help=f"of {', '.join(TARGETS)} (+)", **several)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--messages", type=int, default=5000, help="in a run; of 1 MiB a 25th")
    parser.add_argument("--idle", type=int, metavar="N", help="memory of N idle connections")
    parser.add_argument(
        "--latency",
        type=float,
        metavar="SECONDS",
        help="dot to 250 at half the peak, beside 50 MiB",
    )
    parser.add_argument("--grow", type=int, metavar="N", help="speed while N messages are stored")
    parser.add_argument("--dir", default="/var/tmp", help="on a real disk [default: /var/tmp]")
    parser.add_argument("--json", metavar="FILE", help="write everything there too")
    parser.add_argument("--picture", metavar="FILE", help="draw it, .svg or .png")
    parser.add_argument(
        "--list", action="store_true", help="say what there is, and what is missing"
    )
    return parser.parse_args(words)


def whyNot(target: Target) -> str:
    """What hinders it here, '' for nothing."""
    lost = missing() if target.database == "mysql" else ""
    return "; ".join(filter(None, (lost and f"{lost} not installed", target.missing())))


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def compare(
    bench: Bench, cases: Sequence[Case], targets: Sequence[Target], rounds: int, messages: int
) -> tuple[list[Result], list[str]]:
    """All runs, and what failed."""
    results, failures = [], []
    for case in cases:
        able = [target for target in targets if case.connections <= target.mostOpen]
        for target in (target for target in targets if target not in able):
            say(f"{case.name} {target.name}: skipped: it serves {target.mostOpen} connections")
        for round in range(1, rounds + 1):
            for target in able:
                try:
                    result = bench.measure(target, case, messages, round)
                except BenchError as error:
                    failures.append(f"{case.name} {target.name}: {error}")
                    say(f"{case.name} round {round} {target.name}: FAILED: {error}")
                    continue
                say(f"{case.name} round {round} {target.name}: {result.rate:,.0f} a second")
                results.append(result)
    return results, failures


def measureExtremes(
    bench: Bench, targets: Sequence[Target], args: argparse.Namespace
) -> dict[str, list[dict[str, Any]]]:
    """What else was asked for, of this server only."""
    wanted = {
        "idle": (idle, args.idle),
        "latency": (latency, args.latency),
        "growth": (growth, args.grow),
    }
    found: dict[str, list[dict[str, Any]]] = {}
    for name, (measure, amount) in wanted.items():
        for target in targets:
            if amount and target.isOurs:
                row = {"target": target.name, **measure(bench, target, amount)}
                say(f"{name} " + ", ".join(f"{key} {value}" for key, value in row.items()))
                found.setdefault(name, []).append(row)
    return found


def main() -> int:
    args = parseArguments()
    wanted = [TARGETS[name] for name in args.target or TARGETS]
    lacks = {target.name: reason for target in wanted if (reason := whyNot(target))}
    for name, reason in lacks.items():
        say(f"{name}: skipped: {reason}")
    if args.list:
        print("\n".join(f"{t.name:18} {t.what}" for t in wanted if t.name not in lacks))
        return 0
    if find("smtp-source") is None:
        say("smtp-source is missing: it comes with Postfix, see tests/install-tools")
        return 1
    raiseLimits()
    # So that all that was started is ended, and its directory removed.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    targets = [target for target in wanted if target.name not in lacks]
    isOther = args.idle or args.latency or args.grow
    cases = [CASES[name] for name in args.case or ([] if isOther else CASES)]
    report: dict[str, Any] = {"machine": machine(), "skipped": lacks}
    say(", ".join(f"{key} {value}" for key, value in report["machine"].items()))
    with bench(args.dir, any(target.database == "mysql" for target in targets)) as running:
        results, failures = compare(running, cases, targets, args.rounds, args.messages)
        report |= measureExtremes(running, targets, args)
    report |= {"failed": failures, "summary": (rows := summary(results))}
    print(table(rows))
    if args.json:
        writeJson(args.json, report, results)
    if args.picture and rows and (reason := drawPicture(args.picture, rows)):
        say(f"no picture: {reason}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
