"""smtpstore completion: what a shell has to know to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mailsrv.cli.database import Complaint

VARIABLE = "_SMTPSTORE_COMPLETE"  # by which click asks a program for completions
_SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(_SHELLS))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete commands, options and files.

    The script asks smtpstore itself, with _SMTPSTORE_COMPLETE in the environment.

    \b
    Examples:
      smtpstore completion bash > ~/.local/share/bash-completion/completions/smtpstore
      smtpstore completion zsh > ~/.zfunc/_smtpstore
      smtpstore completion fish > ~/.config/fish/completions/smtpstore.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise Complaint(f"completion for {shell} is not known to this version of click")
    root = click.get_current_context().find_root().command
    script = found(root, {}, "smtpstore", VARIABLE)
    click.echo(script.source_template % script.source_vars())
