"""The tables: made, upgraded, checked; the old, the new and the foreign."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mailsrv.smtp.errors import Unavailable
from mailsrv.store import migrate
from mailsrv.store.dialect import SqliteDialect
from mailsrv.store.migrate import SchemaError, Step, check, steps, upgrade

TABLES = {
    "users": {"id", "address", "name", "password_hash", "forward_to", "moved_to", "created_at"},
    "messages": {
        "id", "received_at", "sender", "subject", "date", "body", "msg_id", "parameters", "sha256",
        "size", "data", "helo", "peer", "protocol", "trace",
    },
    "message_parts": {"message_id", "seq", "data"},
    "recipients": {"message_id", "address", "user_id", "parameters"},
    "mailing_groups": {"id", "address", "name"},
    "mailing_group_members": {"group_id", "address"},
    "aliases": {"address", "target"},
    "mailbox": {"address", "id", "received_at", "sender", "subject", "date", "body", "size"},
    "queue": {
        "id", "message_id", "address", "recipient", "parameters", "state", "attempts",
        "next_attempt_at", "claimed_by", "claimed_until", "last_reply", "created_at",
    },
}  # fmt: skip


@pytest.fixture
def dialect(tmp_path: Path) -> SqliteDialect:
    return SqliteDialect(tmp_path / "mail.db")


def names(dialect: SqliteDialect) -> list[str]:
    return [step.name for step in steps(dialect)]


def execute(dialect: SqliteDialect, *statements: str) -> list[tuple[object, ...]]:
    connection = dialect.connect(create=True)
    rows: list[tuple[object, ...]] = []
    for statement in statements:
        rows = connection.execute(statement).fetchall()
    connection.commit()
    connection.close()
    return rows


@pytest.fixture
def aNewStep(monkeypatch: pytest.MonkeyPatch) -> Iterator[Step]:
    """A version of the program that knows one step more."""
    known = steps(SqliteDialect("x"))
    step = Step(
        known[-1].version + 1, "9999_more", ("CREATE TABLE more (x)", "CREATE TABLE most (x)")
    )
    monkeypatch.setattr(migrate, "steps", lambda dialect: [*known, step])
    yield step
    monkeypatch.undo()


def test_a_fresh_database_gets_all_tables_and_no_more_the_second_time(
    dialect: SqliteDialect,
) -> None:
    assert upgrade(dialect) == names(dialect)
    assert upgrade(dialect) == []
    check(dialect)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_users_may_rely_on_the_columns(dialect: SqliteDialect, table: str) -> None:
    upgrade(dialect)
    columns = execute(dialect, f"PRAGMA table_xinfo({table})")
    assert {column[1] for column in columns} >= TABLES[table]


def test_no_two_steps_have_one_number(dialect: SqliteDialect) -> None:
    versions = [step.version for step in steps(dialect)]
    assert versions == sorted(set(versions))


def test_a_step_that_comes_late_is_run_whatever_its_number(
    dialect: SqliteDialect, aNewStep: Step
) -> None:
    late = Step(aNewStep.version + 1, "0000_later", ("CREATE TABLE later (x)",))
    with pytest.MonkeyPatch.context() as other:
        other.setattr(migrate, "steps", lambda _: [*steps(dialect), late])
        assert late.name in upgrade(dialect)
    with pytest.MonkeyPatch.context() as both:
        both.setattr(migrate, "steps", lambda _: [*steps(dialect), aNewStep, late])
        assert upgrade(dialect) == [aNewStep.name]
        check(dialect)


def test_every_column_is_commented(dialect: SqliteDialect) -> None:
    statements = [statement for step in steps(dialect) for statement in step.statements]
    for statement in [*statements, migrate._VERSION_TABLE]:
        table = re.search(r"CREATE TABLE [\w ]+\(\n(.*)\n\)", statement, re.DOTALL)
        lines = table[1].splitlines() if table else []
        for above, line in zip(["", *lines], lines, strict=False):
            if re.match(r"    [a-z]", line):
                assert above.lstrip().startswith("--"), line


def test_large_columns_stand_last(dialect: SqliteDialect) -> None:
    upgrade(dialect)
    columns = [column[1] for column in execute(dialect, "PRAGMA table_info(messages)")]
    assert columns[-4:] == ["trace", "body_text", "data", "body_start"]


def test_an_old_database_gets_what_it_lacks(dialect: SqliteDialect, aNewStep: Step) -> None:
    with pytest.MonkeyPatch.context() as older:
        older.setattr(migrate, "steps", lambda dialect: steps(dialect)[:2])
        upgrade(dialect)
    with pytest.raises(SchemaError, match="older version; run: smtpstore init"):
        check(dialect)
    assert upgrade(dialect) == [*names(dialect)[2:], aNewStep.name]
    check(dialect)


def test_mail_of_an_older_database_keeps_its_body(dialect: SqliteDialect) -> None:
    with pytest.MonkeyPatch.context() as older:
        older.setattr(migrate, "steps", lambda dialect: steps(dialect)[:4])
        upgrade(dialect)
    execute(
        dialect,
        "INSERT INTO users (id, address) VALUES (1, 'bob@x')",
        "INSERT INTO messages VALUES ('A', '', '', 1, '', '', '', '', '', '', '', '', '', 'old', 'x')",
        "INSERT INTO messages VALUES ('B', '', '', 1, '', '', '', '', '', '', '', '', '', NULL, 'x')",
        "INSERT INTO recipients VALUES ('A', 1, 1, 'bob@x', 'bob@x', '')",
    )
    upgrade(dialect)
    assert execute(dialect, "SELECT id, body FROM messages") == [("A", "old"), ("B", None)]
    assert execute(dialect, "SELECT address, body FROM mailbox") == [("bob@x", "old")]


def test_a_newer_database_is_refused_in_one_line(dialect: SqliteDialect, aNewStep: Step) -> None:
    upgrade(dialect)
    with pytest.MonkeyPatch.context() as older:
        older.setattr(migrate, "steps", lambda _: steps(dialect))
        for refuse in (upgrade, check):
            with pytest.raises(SchemaError, match=r"newer smtpstore.*upgrade smtpstore") as caught:
                refuse(dialect)
            assert "\n" not in str(caught.value)


def test_an_upgrade_that_fails_leaves_the_database_as_it_was(
    dialect: SqliteDialect, aNewStep: Step
) -> None:
    execute(dialect, "CREATE TABLE most (theirs)")
    with pytest.raises(SchemaError, match=r"cannot be upgraded: table .?most.? already exists"):
        upgrade(dialect)
    assert execute(dialect, "SELECT name FROM sqlite_master") == [("most",)]


def test_several_that_start_at_once_upgrade_once(dialect: SqliteDialect) -> None:
    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(upgrade, [dialect] * 4))
    assert sorted(done) == [[], [], [], names(dialect)]


def test_a_database_without_tables_names_the_command(dialect: SqliteDialect) -> None:
    execute(dialect)
    with pytest.raises(SchemaError, match="holds no tables yet; run: smtpstore init"):
        check(dialect)


def test_checking_makes_no_database(dialect: SqliteDialect) -> None:
    with pytest.raises(Unavailable, match="cannot be opened"):
        check(dialect)
    assert not dialect.path.exists()


def test_a_place_where_no_file_can_be_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="cannot be opened") as caught:
        upgrade(SqliteDialect(tmp_path / "missing" / "mail.db"))
    assert "\n" not in str(caught.value)


def test_a_file_that_is_no_database_is_left_alone(dialect: SqliteDialect) -> None:
    dialect.path.write_bytes(b"precious" * 1000)
    with pytest.raises(Unavailable, match="cannot be opened: file is not a database"):
        upgrade(dialect)
    assert dialect.path.read_bytes() == b"precious" * 1000


def test_a_locked_database_is_unavailable(dialect: SqliteDialect) -> None:
    upgrade(dialect)
    blocker = dialect.connect()
    blocker.execute("BEGIN EXCLUSIVE")
    impatient = SqliteDialect(dialect.path, busyTimeout=0)
    with pytest.raises(Unavailable, match="is not available: database is locked"):
        upgrade(impatient)
    blocker.close()


def test_a_database_that_cannot_be_asked_is_unavailable(
    dialect: SqliteDialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: object) -> set[int]:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_READ"
        raise error

    upgrade(dialect)
    monkeypatch.setattr(migrate, "_appliedTxn", failing)
    with pytest.raises(Unavailable, match="is not available: disk I/O error"):
        check(dialect)


def test_the_view_shows_each_mailbox_a_message_once(dialect: SqliteDialect) -> None:
    upgrade(dialect)
    message = (
        "INSERT INTO messages (id, received_at, sender, size, protocol, peer, helo, parameters,"
        " sha256, trace, data) VALUES ('{}', '', '', 0, '', '', '', '', '', '', '')"
    )
    recipient = "INSERT INTO recipients VALUES ('{}', {}, {}, '{}', '{}', '')"
    rows = execute(
        dialect,
        "INSERT INTO users (id, address) VALUES (1, 'bob@x')",
        message.format("A"),
        recipient.format("A", 1, 1, "bob@x", "bob@x"),
        recipient.format("A", 2, 1, "sales@x", "sales@x"),
        recipient.format("A", 3, 99, "gone@x", "gone@x"),
        recipient.format("A", 4, "NULL", "Sink@x", "sink@x"),
        recipient.format("A", 5, "NULL", "SINK@x", "sink@x"),
        message.format("B"),
        recipient.format("B", 1, 1, "bob@x", "bob@x"),
        "SELECT address, id FROM mailbox ORDER BY address, id",
    )
    assert rows == [("bob@x", "A"), ("bob@x", "B"), ("gone@x", "A"), ("sink@x", "A")]
