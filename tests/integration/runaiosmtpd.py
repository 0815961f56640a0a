"""An aiosmtpd that keeps octets: runaiosmtpd.py DIRECTORY; its first line of output is its port."""

from __future__ import annotations

import asyncio
import sys
from itertools import count
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

KEPT = Path(sys.argv[1])


class Lenient(SMTP):
    """Takes lines of any length."""

    line_length_limit = 1 << 23


class Keeper:
    """Writes each message to a file before it is answered."""

    def __init__(self) -> None:
        self._numbers = count()

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        octets = envelope.original_content or b""
        (KEPT / f"{next(self._numbers)}").write_bytes(octets)
        return "250 2.0.0 kept"


async def main() -> None:
    keeper = Keeper()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Lenient(keeper, hostname="aiosmtpd.example", loop=loop), "127.0.0.1", 0
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
