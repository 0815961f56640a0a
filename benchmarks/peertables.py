"""The tables of the peers and the prototype, and how to reach them: no more than mail needs."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote, urlsplit

SQLITE_TABLES = """
CREATE TABLE IF NOT EXISTS messages (
    id INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL DEFAULT CURRENT_TIMESTAMP,
    sender TEXT NOT NULL,
    data BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS recipients (
    message_id INTEGER NOT NULL,
    address TEXT NOT NULL,
    PRIMARY KEY (message_id, address)
);
"""
MYSQL_TABLES = (
    """
    CREATE TABLE messages (
        id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY,
        received_at DATETIME(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        sender VARCHAR(512) NOT NULL,
        data LONGBLOB NOT NULL
    ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4
    """,
    """
    CREATE TABLE recipients (
        message_id BIGINT NOT NULL,
        address VARCHAR(512) NOT NULL,
        PRIMARY KEY (message_id, address)
    ) ENGINE = InnoDB DEFAULT CHARACTER SET utf8mb4
    """,
)
INSERT_MESSAGE = "INSERT INTO messages (sender, data) VALUES (%s, %s)"
INSERT_RECIPIENT = "INSERT INTO recipients (message_id, address) VALUES (%s, %s)"


def mysqlArguments(url: str) -> dict[str, Any]:
    """What PyMySQL's `connect` takes for `mysql://user:password@host:port/name`."""
    parts = urlsplit(url)
    return {
        "host": parts.hostname,
        "port": parts.port,
        "user": unquote(parts.username or ""),
        "password": unquote(parts.password or ""),
        "database": parts.path.removeprefix("/"),
        "charset": "utf8mb4",
    }


def insertOneTxn(txn: Any, sender: str, recipients: list[str], data: bytes) -> None:
    """Write one message and whom it is for; whoever calls this commits."""
    txn.execute(INSERT_MESSAGE, (sender, data))
    id = txn.lastrowid
    txn.executemany(INSERT_RECIPIENT, [(id, recipient) for recipient in recipients])
