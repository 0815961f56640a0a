"""smtpstore doctor"""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator

import click

from mailsrv.cli.certificatefindings import certificateFindings
from mailsrv.cli.database import DEFAULT_URL, Complaint, Database
from mailsrv.cli.output import jsonOption, printRows, safe, say
from mailsrv.cli.portfindings import portFindings
from mailsrv.process import filesFor
from mailsrv.settings import OptionError, Settings, readSettings
from mailsrv.store.dialect import Finding
from mailsrv.store.doctor import examine


@click.command()
@click.option("--db", "url", metavar="URL", help="The database, as in sqlite:smtpstore.db")
@click.option("--config", metavar="F", help="The server's TOML file; also SMTPSTORE_CONFIG.")
@jsonOption
def doctor(url: str | None, config: str | None, asJson: bool) -> None:
    """Look whether a 250 can be kept: database, limits, certificate, ports.

    The server's options are those of its file and of the environment. Says what hangs on each
    thing that is not well, and how to mend it. Changes nothing. The exit status is 1 where
    something is not well.

    \b
    Examples:
      smtpstore doctor
      smtpstore doctor --config /etc/smtpstore/smtpstore.toml
      smtpstore doctor --json
    """
    settings = _settings(url or _ofRoot(), config)
    dialect = Database(settings.db).dialect
    findings = [
        *examine(dialect),
        *(dialect.sharing() if settings.workers > 1 else []),
        *_limits(settings.maxConnections),
        *certificateFindings(settings),
        *portFindings(settings),
    ]
    isWell = all(finding.isFine for finding in findings)
    if asJson:
        columns = ["name", "value", "is_fine", "promise", "mend"]
        printRows([_row(finding) for finding in findings], columns, asJson)
    else:
        for finding in findings:
            _show(finding)
        say("All is well." if isWell else "Not all is well.")
    click.get_current_context().exit(0 if isWell else 1)


def _ofRoot() -> str | None:
    """What --db says before the command; None where it says nothing."""
    url: str = click.get_current_context().find_root().params["url"]
    return None if url == DEFAULT_URL else url


def _settings(url: str | None, config: str | None) -> Settings:
    """Those of the server, as far as file and environment tell."""
    given = {name: [text] for name, text in (("db", url), ("config", config)) if text}
    try:
        return readSettings(given, os.environ)[0]
    except OptionError as error:
        raise Complaint(str(error)) from None


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


def _limits(connections: int) -> Iterator[Finding]:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = filesFor(connections)
    isFine = most == resource.RLIM_INFINITY or most >= files
    yield Finding(
        "open files",
        "no limit" if most == resource.RLIM_INFINITY else most,
        isFine,
        f"{connections} connections (--max-connections) are served where {files} files may be open",
        "raise the limit (ulimit -Hn, or LimitNOFILE= of systemd)",
    )
