"""The tables: numbered steps, one change a file; fresh and old databases run the same ones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import resources

from mailsrv.smtp.errors import Unavailable
from mailsrv.store.dialect import Connection, Dialect, Fault, NotDurable
from mailsrv.store.queries import Txn, timeText

_INIT = "run: smtpstore init, with the same --db"
_STEP_RE = re.compile(r"(\d{4})_\w+\.sql")
_TABLE = re.compile(r"CREATE TABLE (?:IF NOT EXISTS )?(\w+)")
_STATEMENT_END = re.compile(r";[ \t]*$", re.MULTILINE)
_VERSION_TABLE = """
CREATE TABLE IF NOT EXISTS schema_version (
    -- The number of a step that was run
    version    INTEGER PRIMARY KEY,
    -- Its file's name
    name       VARCHAR(100) NOT NULL,
    -- UTC
    applied_at VARCHAR(26) NOT NULL
)"""


class SchemaError(Exception):
    """The tables are not what this program needs; its text is one line and says what to do."""


@dataclass(frozen=True, slots=True)
class Step:
    """One change: its number, its name, and its statements."""

    version: int
    name: str
    statements: tuple[str, ...]


def steps(dialect: Dialect) -> list[Step]:
    """All changes for this kind of database, in order."""
    found = []
    for file in resources.files("mailsrv").joinpath("schema", dialect.schema).iterdir():
        match = _STEP_RE.fullmatch(file.name)
        if match is not None:
            parts = _STATEMENT_END.split(file.read_text("utf-8"))
            statements = tuple(part.strip() for part in parts if part.strip())
            found.append(Step(int(match[1]), file.name.removesuffix(".sql"), statements))
    return sorted(found, key=lambda step: step.version)


def upgrade(dialect: Dialect) -> list[str]:
    """Create the database where there is none and bring its tables up to date; blocking.

    Returns the names of the steps that were run. Raises Unavailable where the database cannot
    be reached, SchemaError where it is newer than this program or holds tables of another.
    """
    connection = _connect(dialect, create=True)
    try:
        with dialect.lockedForUpgrade(connection) as txn:
            return _upgradeTxn(txn, dialect)
    except SchemaError:
        raise
    except Exception as error:
        if dialect.classify(error) in (Fault.TRANSIENT, Fault.UNAVAILABLE, Fault.FULL):
            raise Unavailable(f"{dialect.describe()} is not available: {error}") from error
        raise SchemaError(f"{dialect.describe()} cannot be upgraded: {error}") from error
    finally:
        connection.close()


def check(dialect: Dialect, limit: float | None = None) -> list[str]:
    """Raise SchemaError unless the tables are those of this program, Unavailable where they
    cannot be asked within `limit` seconds; blocking, changes nothing.

    Returns why what is committed may be lost all the same, a line each; where the dialect
    requires that nothing is, that is a SchemaError too.
    """
    connection = _connect(dialect, create=False, limit=limit)
    try:
        return checkTables(connection, dialect)
    except SchemaError:
        raise
    except Exception as error:
        raise Unavailable(f"{dialect.describe()} is not available: {error}") from error
    finally:
        connection.close()


def checkTables(connection: Connection, dialect: Dialect) -> list[str]:
    """The same over an open connection; raises SchemaError, or what the driver raises."""
    try:
        applied = _appliedTxn(connection.cursor(), dialect)
    except Exception as error:
        if isinstance(error, SchemaError) or dialect.classify(error) is not Fault.TABLES:
            raise
        applied = set()
    if any(step.version not in applied for step in steps(dialect)):
        state = "holds tables of an older version" if applied else "holds no tables yet"
        raise SchemaError(f"{dialect.describe()} {state}; {_INIT}")
    weak = [str(each) for each in dialect.durability(connection) if not each.isFine]
    if weak and dialect.requireDurable:
        raise _notDurable(dialect, "; ".join(weak))
    return weak


def _notDurable(dialect: Dialect, why: object) -> SchemaError:
    return SchemaError(f"{dialect.describe()} may lose what it has committed: {why}")


def _connect(dialect: Dialect, create: bool, limit: float | None = None) -> Connection:
    try:
        return dialect.connect(create, limit)
    except Exception as error:
        if isinstance(error, NotDurable):
            raise _notDurable(dialect, error) from error
        if dialect.classify(error) is Fault.TABLES:
            raise SchemaError(f"{dialect.describe()} is not there yet; {_INIT}") from error
        if dialect.isMistaken(error):
            raise SchemaError(
                f"{dialect.describe()} cannot be opened: {error}; correct --db"
            ) from error
        raise Unavailable(f"{dialect.describe()} cannot be opened: {error}") from error


def _appliedTxn(txn: Txn, dialect: Dialect) -> set[int]:
    txn.execute("SELECT version FROM schema_version")
    applied = {int(row[0]) for row in txn.fetchall()}
    newest = max(step.version for step in steps(dialect))
    if applied and max(applied) > newest:
        raise SchemaError(
            f"{dialect.describe()} was made by a newer smtpstore (its tables are at"
            f" {max(applied)}, this program knows {newest}); upgrade smtpstore"
        )
    return applied


def _refuseForeignTxn(txn: Txn, dialect: Dialect) -> None:
    """Where steps can be cut off, tables without a version table are told from such a step's."""
    ours = {name for step in steps(dialect) for name in _TABLE.findall("".join(step.statements))}
    txn.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()")
    there = {name for (name,) in txn.fetchall()}
    if "schema_version" not in there and ours & there:
        names = ", ".join(sorted(ours & there))
        raise SchemaError(
            f"{dialect.describe()} holds tables of another program ({names});"
            " give smtpstore a database of its own"
        )


def _upgradeTxn(txn: Txn, dialect: Dialect) -> list[str]:
    if dialect.commitsDdl:
        _refuseForeignTxn(txn, dialect)
    txn.execute(_VERSION_TABLE)
    applied = _appliedTxn(txn, dialect)
    due = [step for step in steps(dialect) if step.version not in applied]
    for step in due:
        for statement in step.statements:
            txn.execute(statement)
        # Last, as MySQL commits each of the statements by itself.
        txn.execute(
            "INSERT INTO schema_version (version, name, applied_at) VALUES (?, ?, ?)",
            (step.version, step.name, timeText(datetime.now(UTC))),
        )
    return [step.name for step in due]
