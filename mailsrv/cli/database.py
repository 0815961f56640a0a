"""The database a command works on, and what a person is told when it does not work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import IO, Any, TypeVar

import click

from mailsrv.cli.output import safe
from mailsrv.smtp.errors import Unavailable
from mailsrv.store import migrate
from mailsrv.store.dialect import Connection, Dialect, Fault, SqliteDialect, parseUrl
from mailsrv.store.queries import Txn

DEFAULT_URL = "sqlite:smtpstore.db"

_F = TypeVar("_F", bound=Callable[..., Any])


TEMPORARY = 75  # EX_TEMPFAIL of sysexits.h: the same again may well work


class Complaint(click.ClickException):
    """What is wrong and how to mend it, in one line; exit status 1, or another that is given."""

    def __init__(self, message: str, status: int = 1) -> None:
        super().__init__(message)
        self.exit_code = status  # type: ignore[misc]  # a class variable to click

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo("smtpstore: " + safe(" ".join(self.message.split())), err=True)


class Database:
    """The database of a URL; it never comes into being but by `upgrade`."""

    def __init__(self, url: str) -> None:
        try:
            self.dialect: Dialect = parseUrl(url)
        except ValueError as error:
            raise Complaint(str(error)) from None

    def prepare(self) -> None:
        """Create or upgrade it where the server does so by itself: a SQLite file."""
        if self.dialect.upgradesItself:
            self.upgrade()

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
        if isinstance(self.dialect, SqliteDialect):
            _lookFor(self.dialect.path)
        migrate.check(self.dialect)
        return self.dialect.connect()

    @contextmanager
    def _complaining(self) -> Iterator[None]:
        """Turn what the database raises into one line."""
        driverError: type[Exception] = import_module(self.dialect.driver).Error
        try:
            yield
        except (Unavailable, migrate.SchemaError) as error:
            raise Complaint(str(error), self._status(error.__cause__)) from None
        except driverError as error:
            where = self.dialect.describe()
            raise Complaint(f"{where}: {error}", self._status(error)) from None

    def _status(self, error: BaseException | None) -> int:
        """75 where the database is busy, full, or a server that cannot be asked just now."""
        if error is None or self.dialect.isMistaken(error):
            return 1
        fault = self.dialect.classify(error)
        isServer = not isinstance(self.dialect, SqliteDialect)
        if fault in (Fault.TRANSIENT, Fault.FULL) or (isServer and fault is Fault.UNAVAILABLE):
            return TEMPORARY
        return 1


def _lookFor(path: Path) -> None:
    """Complain where there is no such file, or no way to it; SQLite does not say which."""
    try:
        path.stat()
    except FileNotFoundError:
        if not path.parent.is_dir():
            raise Complaint(f"there is no folder {path.parent}; see --db or SMTPSTORE_DB") from None
        raise Complaint(
            f"there is no database {path}; say where it is with --db or SMTPSTORE_DB,"
            f" or make it with: smtpstore init --db sqlite:{path}"
        ) from None
    except OSError as error:
        raise Complaint(
            f"the database {path} cannot be opened: {error.strerror}; see --db or SMTPSTORE_DB"
        ) from None


def withDatabase(command: _F) -> _F:
    """Give a command `--db`, and a Database as its first argument."""

    @click.option("--db", "url", metavar="URL", help="The database, as in sqlite:smtpstore.db")
    @wraps(command)
    def run(*args: Any, url: str | None, **options: Any) -> Any:
        root = click.get_current_context().find_root()
        return command(Database(url or root.params["url"]), *args, **options)

    return run  # type: ignore[return-value]
