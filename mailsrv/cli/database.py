"""The database a command works on, and what a person is told when it does not work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from typing import IO, Any, TypeVar

import click

from mailsrv.cli.output import safe
from mailsrv.smtp.errors import Unavailable
from mailsrv.store import migrate
from mailsrv.store.dialect import Connection, Dialect, SqliteDialect, parseUrl
from mailsrv.store.queries import Txn

DEFAULT_URL = "sqlite:smtpstore.db"

_F = TypeVar("_F", bound=Callable[..., Any])


class Complaint(click.ClickException):
    """What is wrong and how to mend it, in one line; exit status 1."""

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo("smtpstore: " + safe(" ".join(self.message.split())), err=True)


class Database:
    """The database of a URL; it never comes into being but by `upgrade`."""

    def __init__(self, url: str) -> None:
        try:
            self.dialect: Dialect = parseUrl(url)
        except ValueError as error:
            raise Complaint(str(error)) from None

    def upgrade(self) -> list[str]:
        """Create it, or bring its tables up to date; the names of the steps that were run."""
        with self._complaining():
            return migrate.upgrade(self.dialect)

    @contextmanager
    def transaction(self) -> Iterator[Txn]:
        """A cursor; what it wrote is committed at the end, or undone by an exception."""
        with self._complaining():
            connection = self._connect()
            try:
                yield connection.cursor()
                connection.commit()
            finally:
                connection.close()

    def _connect(self) -> Connection:
        if isinstance(self.dialect, SqliteDialect) and not self.dialect.path.exists():
            path = self.dialect.path
            raise Complaint(
                f"there is no database {path}; make it with: smtpstore init --db sqlite:{path}"
            )
        migrate.check(self.dialect)
        return self.dialect.connect()

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        """Turn what the database raises into one line."""
        driverError: type[Exception] = import_module(self.dialect.driver).Error
        try:
            yield
        except (Unavailable, migrate.SchemaError) as error:
            raise Complaint(str(error)) from None
        except driverError as error:
            raise Complaint(f"{self.dialect.describe()}: {error}") from None


def withDatabase(command: _F) -> _F:
    """Give a command `--db`, and a Database as its first argument."""

    @click.option("--db", "url", metavar="URL", help="The database, as in sqlite:smtpstore.db")
    @wraps(command)
    def run(*args: Any, url: str | None, **options: Any) -> Any:
        root = click.get_current_context().find_root()
        return command(Database(url or root.params["url"]), *args, **options)

    return run  # type: ignore[return-value]
