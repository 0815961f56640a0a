"""What runs in the process of a ServerProcess: lines of JSON out, and an end when stdin ends."""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet.task import react
from twisted.internet.threads import deferToThreadPool

from mailsrv.smtp.message import Message
from mailsrv.testing.server import MailServer


def _say(**news: Any) -> None:
    print(json.dumps(news), flush=True)


def _stored(message: Message) -> None:
    _say(id=message.id)


async def serve(reactor: Any, wishes: str) -> None:
    """Serve until stdin is closed; `wishes`: arguments of MailServer, as JSON."""
    async with MailServer(reactor, stored=_stored, **json.loads(wishes)) as server:
        _say(
            port=server.port,
            tlsPort=server.tlsPort,
            certificate=server.certificate,
            path=server.db.removeprefix("sqlite:"),
        )
        # It ends, too, when whoever started it is gone.
        await deferToThreadPool(reactor, reactor.getThreadPool(), sys.stdin.read)


if __name__ == "__main__":
    react(serve, sys.argv[1:])
