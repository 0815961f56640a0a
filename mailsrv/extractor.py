"""Who reads subject, date and body out of a message, and in which thread."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThreadPool
from twisted.python.threadpool import ThreadPool

from mailsrv.extract import (
    FIRST_LOOK,
    MAX_HEAD,
    PLAIN_SIZE,
    extract,
    extractFirst,
    extractPlain,
)
from mailsrv.server.site import Extractor
from mailsrv.smtp.message import Content, Summary


def extractorIn(pool: ThreadPool, reactor: Any) -> Extractor:
    """An extractor: small plain messages on the spot, all others in a thread of `pool`."""

    def extractOf(content: Content) -> Summary | Deferred[Summary]:
        if content.size <= PLAIN_SIZE:
            head = content.head(PLAIN_SIZE)
            summary = extractPlain(head)
            if summary is not None:
                return summary
        return deferToThreadPool(reactor, pool, _extractAll, content)

    return extractOf


def _extractAll(content: Content) -> Summary:
    """Its beginning most often tells all there is to know of a large message."""
    first = extractFirst(content.head(FIRST_LOOK)) if content.size > FIRST_LOOK else None
    return first or extract(content.head(MAX_HEAD))
