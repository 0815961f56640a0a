"""smtpstore doctor"""

from __future__ import annotations

import resource
from collections.abc import Iterator

import click

from mailsrv.cli.database import Database, withDatabase
from mailsrv.cli.output import jsonOption, printRows, safe, say
from mailsrv.store.dialect import Finding
from mailsrv.store.doctor import examine

_FILES = 2100  # a socket and a spool's file for each of --max-connections, and some


@click.command()
@withDatabase
@jsonOption
def doctor(database: Database, asJson: bool) -> None:
    """Look whether a 250 can be kept: the database, how it is set, the limits.

    Says what hangs on each thing that is not well, and how to mend it. Changes nothing. The exit
    status is 1 where something is not well.

    \b
    Examples:
      smtpstore doctor
      smtpstore doctor --json
    """
    findings = [*examine(database.dialect), *_limits()]
    isWell = all(finding.isFine for finding in findings)
    if asJson:
        columns = ["name", "value", "is_fine", "promise", "mend"]
        printRows([_row(finding) for finding in findings], columns, asJson)
    else:
        for finding in findings:
            _show(finding)
        say("All is well." if isWell else "Not all is well.")
    click.get_current_context().exit(0 if isWell else 1)


def _row(finding: Finding) -> dict[str, object]:
    return {
        "name": finding.name,
        "value": finding.value,
        "is_fine": finding.isFine,
        "promise": finding.promise,
        "mend": "" if finding.isFine else finding.mend,
    }


def _show(finding: Finding) -> None:
    say(f"{'ok   ' if finding.isFine else 'WRONG'}  {finding.name}: {safe(finding.value)}")
    if not finding.isFine:
        say(f"       why:  {finding.promise}")
        say(f"       mend: {finding.mend}")


def _limits() -> Iterator[Finding]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    isFine = most == resource.RLIM_INFINITY or most >= _FILES
    yield Finding(
        "open files",
        "no limit" if most == resource.RLIM_INFINITY else most,
        isFine,
        f"1000 connections (--max-connections) are served where {_FILES} files may be open",
        "raise the limit (ulimit -Hn, or LimitNOFILE= of systemd)",
    )
