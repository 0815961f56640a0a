"""smtpstore doctor, on SQLite and on MariaDB"""

from __future__ import annotations

import json
import resource
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from mailsrv.cli import main
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mariadb import Database, MakeServer


def examine(url: str) -> tuple[int, dict[str, dict]]:
    """The exit status, and the findings by name."""
    result = CliRunner().invoke(main, ["doctor", "--json"], env={"SMTPSTORE_DB": url})
    assert result.stderr == ""
    return result.exit_code, {row["name"]: row for row in json.loads(result.stdout)}


def wrong(findings: dict[str, dict]) -> set[str]:
    return {name for name, row in findings.items() if not row["is_fine"]}


def show(url: str) -> Result:
    return CliRunner().invoke(main, ["doctor", "--db", url])


def test_aFreshFileIsWell(shell):
    status, findings = examine(f"sqlite:{shell.path}")
    assert (status, wrong(findings)) == (0, set())
    assert findings["synchronous"]["value"] == 2
    result = show(f"sqlite:{shell.path}")
    assert result.exit_code == 0
    assert result.stdout.endswith("All is well.\n")


def test_aFileThatOthersMayReadIsNotWell_andTheMendIsSaid(shell):
    shell.path.chmod(0o644)
    result = show(f"sqlite:{shell.path}")
    assert result.exit_code == 1
    assert f"mend: chmod 600 {shell.path}" in result.stdout
    assert result.stdout.endswith("Not all is well.\n")


def test_aFileInMemoryIsNotKept(tmp_path, monkeypatch):
    monkeypatch.setattr("mailsrv.store.sqlite._fileSystemOf", lambda path: "tmpfs")
    dialect = parseUrl(f"sqlite:{tmp_path / 'mail.db'}")
    upgrade(dialect)
    status, findings = examine(f"sqlite:{tmp_path / 'mail.db'}")
    assert (status, wrong(findings)) == (1, {"file system"})


def test_noDatabaseIsSaid_andNotMade(shell):
    shell.path.unlink()
    status, findings = examine(f"sqlite:{shell.path}")
    assert (status, wrong(findings)) == (1, {"database"})
    assert not shell.path.exists()


def test_missingTablesNameTheCommand(database: Database):
    status, findings = examine(database.url)
    assert (status, wrong(findings)) == (1, {"tables"})
    assert findings["tables"]["mend"] == "run: smtpstore init"


def test_aDatabaseThatIsDownIsOneFinding(database: Database):
    status, findings = examine(f"mysql://a:odd-secret@127.0.0.1:1/{database.name}")
    assert (status, wrong(findings)) == (1, {"database"})
    assert "odd-secret" not in str(findings)


def test_tooFewFilesAreNotWell(shell, monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 1024))
    status, findings = examine(f"sqlite:{shell.path}")
    assert (status, wrong(findings)) == (1, {"open files"})


@pytest.fixture
def fresh(database: Database) -> Database:
    upgrade(parseUrl(database.url))
    return database


def test_aFreshMariadbIsWell(fresh: Database):
    status, findings = examine(fresh.url)
    assert (status, wrong(findings)) == (0, set())
    assert findings["max_allowed_packet"]["value"] == 16 << 20


def makeVarchar(database: Database) -> None:
    database.query("ALTER TABLE queue MODIFY domain VARCHAR(512) CHARACTER SET latin1 NOT NULL")


def makeAria(database: Database) -> None:
    database.query("DROP TABLE event_lanes, events")
    database.query("CREATE TABLE events (id INT) ENGINE = Aria")


def withdraw(database: Database) -> None:
    database.query(f"REVOKE DELETE ON `{database.name}`.* FROM `{database.name}`@'%'")


@pytest.mark.parametrize(
    ("spoil", "name", "says"),
    [
        (makeVarchar, "columns that are not utf8mb4", "1"),
        (makeAria, "tables without transactions", "events"),
        (withdraw, "rights", "without DELETE"),
    ],
)
def test_whatIsSpoiledIsFound(
    fresh: Database, spoil: Callable[[Database], None], name: str, says: str
):
    spoil(fresh)
    status, findings = examine(fresh.url)
    assert (status, wrong(findings)) == (1, {name})
    assert str(findings[name]["value"]) == says


def test_rightsThatARoleMayGiveAreNotCalledMissing(fresh: Database):
    withdraw(fresh)
    role = f"{fresh.name}_role"
    fresh.query(f"CREATE ROLE `{role}`")
    try:
        fresh.query(f"GRANT ALL ON `{fresh.name}`.* TO `{role}`")
        fresh.query(f"GRANT `{role}` TO `{fresh.name}`@'%'")
        status, findings = examine(fresh.url)
        assert (status, wrong(findings)) == (0, set())
        assert findings["rights"]["value"] == "without DELETE, unless a role has them"
    finally:
        fresh.query(f"DROP ROLE `{role}`")


def test_whatCannotBeAskedIsSaidSo(fresh: Database, monkeypatch):
    def fail(*_):
        raise RuntimeError("odd")

    monkeypatch.setattr("mailsrv.store.doctor._engines", fail)
    status, findings = examine(fresh.url)
    assert status == 1
    assert findings["database"]["value"] == "failing (odd)"


def test_aServerThatForgetsIsFound(makeMariadb: MakeServer):
    server = makeMariadb(
        *("--innodb-flush-log-at-trx-commit=2", "--log-bin", "--sync-binlog=0"),
        *("--max-allowed-packet=1M", "--skip-innodb-doublewrite"),
    )
    made = server.makeDatabase()
    upgrade(parseUrl(made.url))
    server.query("SET GLOBAL read_only = 1")
    status, findings = examine(made.url)
    assert status == 1
    assert wrong(findings) == {
        "innodb_flush_log_at_trx_commit",
        "sync_binlog",
        "max_allowed_packet",
        "innodb_doublewrite",
        "read_only",
    }
    assert all(findings[name]["mend"] for name in wrong(findings))
