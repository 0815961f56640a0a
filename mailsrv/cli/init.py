"""smtpstore init"""

from __future__ import annotations

import click

from mailsrv.cli.database import Database, withDatabase
from mailsrv.cli.output import jsonOption, printRows, say


@click.command()
@withDatabase
@jsonOption
def init(database: Database, asJson: bool) -> None:
    """Create the database, or bring its tables up to date.

    \b
    Examples:
      smtpstore init
      smtpstore init --db sqlite:/var/lib/smtpstore/mail.db
    """
    steps = database.upgrade()
    if asJson:
        printRows([{"name": name} for name in steps], ["name"], asJson)
        return
    done = f"ran {', '.join(steps)}" if steps else "the tables are up to date"
    say(f"{database.dialect.describe()}: {done}")
