"""The command `smtpstore`: users, aliases, groups and messages from a terminal or a script."""

from __future__ import annotations

import click

from mailsrv.cli import alias, events, group, init, message, queue, user
from mailsrv.cli.database import DEFAULT_URL

__all__ = ["main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--db",
    "url",
    metavar="URL",
    envvar="SMTPSTORE_DB",
    default=DEFAULT_URL,
    help=f"The database; also with each command, or in SMTPSTORE_DB. Default: {DEFAULT_URL}",
)
def main(url: str) -> None:
    """Look after the mail store that the server fills.

    \b
    Examples:
      smtpstore init
      smtpstore user add bob@example.com --name "Bob Miller"
      smtpstore alias add @example.com bob@example.com
      smtpstore message list --to bob@example.com
      smtpstore message raw 01J8ZC0000000000000000000A > mail.eml

    Start the server itself with: twistd -n smtpstore
    """


for _command in (
    init.init,
    user.user,
    alias.alias,
    group.group,
    message.message,
    queue.queue,
    events.events,
):
    main.add_command(_command)
