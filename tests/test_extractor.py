"""What is read out of a message on the spot, and what in a thread."""

from __future__ import annotations

import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.python.threadpool import ThreadPool

from mailsrv.extractor import extractorIn
from mailsrv.smtp.message import BytesContent, Summary

PLAIN = b"Subject: Plain\r\n\r\nText\r\n"
ENCODED = b"Subject: =?utf-8?q?M=C3=BCsli?=\r\n\r\nText\r\n"


@pytest_twisted.ensureDeferred
async def test_what_takes_longer_is_extracted_in_a_thread() -> None:
    from twisted.internet import reactor

    pool = ThreadPool(0, 1)
    extract = extractorIn(pool, reactor)
    assert extract(BytesContent(PLAIN)) == Summary("Plain", None, "Text\n", None)
    waiting = extract(BytesContent(ENCODED))
    assert isinstance(waiting, Deferred)
    large = extract(BytesContent(PLAIN + b"Text\r\n" * 20_000))
    assert isinstance(large, Deferred)
    pool.start()
    try:
        assert (await waiting).subject == "Müsli"
        assert len((await large).body or "") == 65_536
    finally:
        pool.stop()
