"""The peer: aiosmtpd and PyMySQL, one COMMIT a message.

    python benchmarks/aiosmtpd_mysql.py mysql://user:password@host:port/name

As its users write it, with the database off the event loop: threads with a connection each.
"""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymysql
from aiosmtpd.smtp import SMTP

from peertables import insertOneTxn, mysqlArguments

CONNECTIONS = 10


class Storing:
    """Stores each message before it is answered."""

    def __init__(self, url: str) -> None:
        self._arguments = mysqlArguments(url)
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(CONNECTIONS)

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(
            self._threads, self._store, envelope.mail_from, envelope.rcpt_tos, envelope.content
        )
        return "250 OK"

    def _store(self, sender: str, recipients: list[str], data: bytes) -> None:
        if not hasattr(self._own, "connection"):
            self._own.connection = pymysql.connect(**self._arguments)
        connection = self._own.connection
        with connection.cursor() as txn:
            insertOneTxn(txn, sender, recipients, data)
        connection.commit()


async def main(url: str) -> None:
    storing = Storing(url)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(storing, hostname="bench", data_size_limit=1 << 26),
        "127.0.0.1",
        0,
        backlog=1024,
    )
    print(f"listening on {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
