"""The command `smtpstore`: users, aliases, groups and messages from a terminal or a script."""

from __future__ import annotations

from importlib import metadata
from typing import Any

import click

from mailsrv.cli import (
    alias,
    completion,
    doctor,
    events,
    exporting,
    group,
    importing,
    init,
    message,
    queue,
    send,
    sendmail,
    user,
)
from mailsrv.cli.database import DEFAULT_URL, Complaint
from mailsrv.cli.examples import teach

__all__ = ["main"]


def _version(context: click.Context, _: click.Parameter, isAsked: bool) -> None:
    if not isAsked:
        return
    try:
        version = metadata.version("smtpstore")
    except metadata.PackageNotFoundError:
        version = "of a checkout that is not installed"
    click.echo(f"smtpstore {version}")
    context.exit()


class _Commands(click.Group):
    """All commands; a value that is wrong or missing is one line, as all else that is wrong."""

    def invoke(self, context: click.Context) -> Any:
        try:
            return super().invoke(context)
        except click.BadParameter as error:
            command = error.ctx.command_path if error.ctx else "smtpstore"
            why = error.format_message().rstrip(".")
            raise Complaint(f"{why}; see: {command} --help", error.exit_code) from None


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit status: 0 done; 1 it cannot be done, and one line says why; 2 an option or a"
    " command that is not known, or a value that is wrong or missing; 75 the database is busy,"
    " full or down: try again later.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_version,
    help="Show the version.",
)
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
      smtpstore export bob.mbox --to bob@example.com

    Start the server itself with: twistd -n smtpstore
    """


for _command in (
    doctor.doctor,
    init.init,
    user.user,
    alias.alias,
    group.group,
    message.message,
    exporting.export,
    importing.importMailbox,
    queue.queue,
    events.events,
    send.send,
    sendmail.sendmail,
    completion.completion,
):
    main.add_command(_command)
teach(main)
