"""A policy that asks rspamd about each message, by HTTP.

    PYTHONPATH=contrib/rspamd twistd -n smtpstore --policy rspamd:host=127.0.0.1:port=11333

rspamd's actions: `reject` is answered 550, `soft reject` and `greylist` are answered 451; with all
others the message passes. So does a message larger than `max-size` (4 MiB). Where rspamd does not
answer within `timeout` seconds (10) the message passes with a line in the log; `strict=yes` answers
451 instead.
"""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.logger import Logger

from mailsrv import ITransaction, Policy, Reply, reply

AT_ONCE = 8  # messages that are asked about, and so held in memory

SPAM = "This message looks like spam"
LATER = reply(451, "4.7.1", "Please try again later")

_log = Logger(namespace="rspamd")


class Rspamd(Policy):
    """Refuses what rspamd says is to be refused."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: str = "11333",
        timeout: str = "10",
        max_size: str = "4194304",
        strict: str = "no",
    ) -> None:
        self._url = f"http://{host}:{int(port)}/checkv2"
        self._timeout = float(timeout)
        self._maxSize = int(max_size)
        self._isStrict = {"yes": True, "no": False}[strict]
        self._turns = DeferredSemaphore(AT_ONCE)

    def atContent(self, transaction: ITransaction, content: Any) -> Deferred[Reply | None] | None:
        if content.size > self._maxSize:
            return None
        return Deferred.fromCoroutine(self._answer(transaction, content))

    async def _answer(self, transaction: ITransaction, content: Any) -> Reply | None:
        await self._turns.acquire()
        try:
            said = await self._ask(transaction, content.head(content.size))
        except Exception as error:
            _log.warn("rspamd cannot be asked: {error!r}", error=error)
            return LATER if self._isStrict else None
        finally:
            self._turns.release()
        action = said.get("action")
        if action == "reject":
            return reply(550, "5.7.1", _shown(said.get("messages", {}).get("smtp_message", SPAM)))
        return LATER if action in ("soft reject", "greylist") else None

    async def _ask(self, transaction: ITransaction, octets: bytes) -> dict[str, Any]:
        import treq

        session = transaction.session
        headers = {
            "From": [f"<{transaction.reversePath}>"],
            "Rcpt": list(dict.fromkeys(f"<{each.address}>" for each in transaction.recipients)),
            "Helo": [session.helo],
            **({"IP": [session.peer]} if session.peer else {}),
            **({"User": [session.identity]} if session.identity else {}),
        }
        response = await treq.post(self._url, octets, headers=headers, timeout=self._timeout)
        if response.code != 200:
            raise ValueError(f"status {response.code}")
        said: dict[str, Any] = json.loads(await response.content())
        return said


def _shown(text: str) -> str:
    """A text for a reply: ASCII, and not too long for a line."""
    return text.encode("ascii", "replace").decode()[:200]
