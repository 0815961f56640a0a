"""smtpstore doctor, on SQLite and on MariaDB"""

from __future__ import annotations

import json
import resource
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from madecertificate import certificate
from mailsrv.cli import main
from mailsrv.store.dialect import parseUrl
from mailsrv.store.migrate import upgrade
from mailsrv.testing import ServerProcess
from mariadb import Database, MakeServer

FREE = {"port": "tcp:0:interface=127.0.0.1"}
PORT = {"SMTPSTORE_PORT": "tcp:0:interface=127.0.0.1"}


def examine(url: str) -> tuple[int, dict[str, dict]]:
    """The exit status, and the findings by name."""
    result = CliRunner().invoke(main, ["doctor", "--json"], env={**PORT, "SMTPSTORE_DB": url})
    assert result.stderr == ""
    return result.exit_code, {row["name"]: row for row in json.loads(result.stdout)}


def wrong(findings: dict[str, dict]) -> set[str]:
    return {name for name, row in findings.items() if not row["is_fine"]}


def show(url: str) -> Result:
    return CliRunner().invoke(main, ["doctor", "--db", url], env=PORT)


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


@pytest.mark.parametrize(
    ("version", "isFine"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 9), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_severalProcessesWantASqliteThatKeepsWhatTheyWrite(
    shell, tmp_path, monkeypatch, version, isFine
):
    monkeypatch.setattr("sqlite3.sqlite_version_info", version)
    config = tmp_path / "smtpstore.toml"
    config.write_text(f'db = "sqlite:{shell.path}"\nworkers = 2\n')
    result = CliRunner().invoke(main, ["doctor", "--json", "--config", str(config)], env=PORT)
    findings = {row["name"]: row for row in json.loads(result.stdout)}
    assert (result.exit_code, wrong(findings)) == ((0, set()) if isFine else (1, {"SQLite"}))


def test_oneProcessWritesWithAnySqlite(shell, monkeypatch):
    monkeypatch.setattr("sqlite3.sqlite_version_info", (3, 40, 1))
    status, findings = examine(f"sqlite:{shell.path}")
    assert status == 0
    assert "SQLite" not in findings


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


# Ports and certificate


def examineWith(shell, place: Path, **options: str) -> dict[str, dict]:
    """The findings where a file has these options of the server's."""
    lines = [f'{name.replace("_", "-")} = "{value}"' for name, value in options.items()]
    (place / "smtpstore.toml").write_text("\n".join(lines))
    result = CliRunner().invoke(
        main,
        ["doctor", "--json", "--db", f"sqlite:{shell.path}", "--config", f"{place}/smtpstore.toml"],
    )
    assert result.stderr == ""
    return {row["name"]: row for row in json.loads(result.stdout)}


@contextmanager
def listening(greeting: bytes) -> Iterator[int]:
    """A program on a port that says this to whoever comes first."""

    def greet() -> None:
        connection, _ = server.accept()
        with connection:
            connection.sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet)
        thread.start()
        yield server.getsockname()[1]
        thread.join(20)


def test_aPortThatIsFreeIsWell(shell, tmp_path):
    findings = examineWith(shell, tmp_path, port="tcp:0:interface=127.0.0.1")
    assert findings["port 0 (SMTP)"]["value"] == "free"
    assert wrong(findings) == set()


def test_aPortThatTheServerHoldsIsWell_andItsGreetingTellsWho(shell, tmp_path):
    with listening(b"220 mx.example.com ESMTP\x1b\r\n") as port:
        findings = examineWith(shell, tmp_path, port=str(port))
    value = findings[f"port {port} (SMTP)"]["value"]
    assert value == r"in use, by who greets: 220 mx.example.com ESMTP\x1b"
    assert wrong(findings) == set()


def test_aPortThatAnotherProgramHoldsIsNotWell(shell, tmp_path):
    with listening(b"HTTP/1.1 400 Bad Request\r\n") as port:
        findings = examineWith(shell, tmp_path, port=str(port))
    assert wrong(findings) == {f"port {port} (SMTP)"}
    assert "another port" in findings[f"port {port} (SMTP)"]["mend"]


def test_aPortOfTlsIsGreetedInTls(shell, tmp_path):
    cert, key = certificate(tmp_path, datetime.now(UTC))
    options = {"tls_cert": cert, "tls_key": key, "hostname": "mail.example.com", "port": ""}
    with ServerProcess(tls=True) as server:
        findings = examineWith(shell, tmp_path, smtps=str(server.tlsPort), **options)
    value = findings[f"port {server.tlsPort} (SMTPS)"]["value"]
    assert value.startswith("in use, by who greets: 220 mail.test ESMTP")
    assert wrong(findings) == set()


def test_aPortBehindAProxyIsGreetedWithAHeader(shell, tmp_path):
    heard = []

    def greet() -> None:
        connection, _ = server.accept()
        with connection:
            heard.append(connection.recv(1000))
            connection.sendall(b"220 mail.example.com ESMTP\r\n")

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=greet)
        thread.start()
        number = server.getsockname()[1]
        port = f"haproxy:tcp:{number}:interface=127.0.0.1"
        findings = examineWith(shell, tmp_path, port=port)
        thread.join(20)
    assert heard == [b"PROXY UNKNOWN\r\n"]
    assert wrong(findings) == set()


def test_aSocketIsLeftToTheServer(shell, tmp_path):
    findings = examineWith(shell, tmp_path, port=f"unix:{tmp_path}/s")
    assert not [name for name in findings if name.startswith("port ")]


@pytest.mark.parametrize(
    ("port", "value"),
    [
        ("tcp:25:interface=198.51.100.1", "Cannot assign requested address"),
        ("tcp:x", "not an endpoint"),
    ],
)
def test_aPortThatCannotBeIsNotWell(shell, tmp_path, port, value):
    [name] = wrong(findings := examineWith(shell, tmp_path, port=port))
    assert value in findings[name]["value"]


@pytest.mark.parametrize(
    ("started", "hostname", "names", "value"),
    [
        (timedelta(days=1), "mail.example.com", set(), "valid until "),
        (timedelta(days=360), "mail.example.com", {"certificate"}, "it expires soon, on "),
        (timedelta(days=400), "mail.example.com", {"certificate"}, "it has expired on "),
        (timedelta(days=-2), "mail.example.com", {"certificate"}, "it is valid from "),
        (timedelta(days=1), "else.example.com", {"certificate's names"}, "valid until "),
    ],
)
def test_theCertificateIsLookedAt(shell, tmp_path, started, hostname, names, value):
    cert, key = certificate(tmp_path, datetime.now(UTC) - started)
    options = {"tls_cert": cert, "tls_key": key, "hostname": hostname, **FREE}
    findings = examineWith(shell, tmp_path, **options)
    assert wrong(findings) == names
    assert findings["certificate"]["value"].startswith(value)


def test_aWildcardIsForTheHostsOfItsDomain(shell, tmp_path):
    cert, key = certificate(tmp_path, datetime.now(UTC), "*.example.com")
    options = {"tls_cert": cert, "tls_key": key, **FREE}
    assert not wrong(examineWith(shell, tmp_path, hostname="mx.example.com", **options))
    assert wrong(examineWith(shell, tmp_path, hostname="a.mx.example.com", **options))


def test_aCertificateOfOldNamesItsHostAsItsSubject(shell, tmp_path):
    cert, key = certificate(tmp_path, datetime.now(UTC), hasAlternatives=False)
    options = {"tls_cert": cert, "tls_key": key, "hostname": "mail.example.com", **FREE}
    assert not wrong(examineWith(shell, tmp_path, **options))


def test_aKeyOfAnotherCertificateIsNotWell(shell, tmp_path):
    (tmp_path / "other").mkdir()
    cert, _ = certificate(tmp_path, datetime.now(UTC))
    _, key = certificate(tmp_path / "other", datetime.now(UTC))
    findings = examineWith(shell, tmp_path, tls_cert=cert, tls_key=key, **FREE)
    assert wrong(findings) == {"certificate"}
    assert "does not belong to" in findings["certificate"]["value"]


def test_aConfigurationThatIsWrongIsOneLine(shell):
    line = shell.complaint("doctor", "--config", "/none.toml")
    assert line == "smtpstore: --config /none.toml: No such file or directory"
