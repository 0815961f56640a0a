"""GET /metrics, in the text format of Prometheus; nothing else is there."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from prometheus_client import ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.failure import Failure
from twisted.web.http import INTERNAL_SERVER_ERROR, NOT_ALLOWED
from twisted.web.pages import notFound
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from mailsrv.web.metrics import Values, named, samplesOf

CONNECTIONS = 20  # at once
TIMEOUT = 60.0  # seconds that a connection may be idle

Ask = Callable[[], Awaitable[Iterable[Values]]]

_log = Logger(namespace="smtpstore")


class MetricsSite(WrappingFactory[ProtocolWrapper]):
    """Answers with what `ask` says at the time, and what Linux knows of this process.

    A text is made in the reactor thread, in about a millisecond: all that has to be waited for,
    `ask` waits for.
    """

    noisy = False

    def __init__(self, ask: Ask, reactor: IReactorTime) -> None:
        root = _Branch()
        root.putChild(b"metrics", _MetricsResource(ask))
        super().__init__(
            _QuietSite(root, requestFactory=_Request, timeout=TIMEOUT, reactor=reactor)
        )

    def buildProtocol(self, addr: IAddress | None) -> Any:
        return super().buildProtocol(addr) if len(self.protocols) < CONNECTIONS else None

    def close(self) -> None:
        """End the connections there are."""
        for protocol in list(self.protocols):
            protocol.loseConnection()


class _QuietSite(Site):
    """A scrape each few seconds is no news."""

    noisy = False

    def log(self, request: object) -> None:
        """No access log."""


class _Request(Request):
    """Nobody asks for a body, so none is kept."""

    def gotLength(self, length: int | None) -> None:
        super().gotLength(0)

    def handleContentChunk(self, data: bytes) -> None:
        """Read over it."""


class _Branch(Resource):
    """Below it is nothing but what was put there."""

    def getChild(self, path: bytes, request: Request) -> Any:
        return notFound()


class _MetricsResource(_Branch):
    def __init__(self, ask: Ask) -> None:
        super().__init__()
        self._ask = ask
        self._process = ProcessCollector(registry=None)

    def render(self, request: Request) -> Any:
        # HEAD is GET without the body, which twisted.web sees to.
        if request.method not in (b"GET", b"HEAD"):
            request.setResponseCode(NOT_ALLOWED)
            request.setHeader("allow", "GET, HEAD")
            return b""
        answering = Deferred.fromCoroutine(self._answer(request))
        answering.addErrback(self._failed, request)
        # Who has gone is not waited for.
        request.notifyFinish().addErrback(lambda _: answering.cancel())
        return NOT_DONE_YET

    async def _answer(self, request: Request) -> None:
        families = [*_families(await self._ask()), *self._process.collect()]
        encode, contentType = choose_encoder(request.getHeader("accept") or "")
        request.setHeader("content-type", contentType)
        request.setHeader("cache-control", "no-store")
        request.write(encode(_Once(families)))
        request.finish()

    def _failed(self, failure: Failure, request: Request) -> None:
        if failure.check(CancelledError) is None:
            _log.failure("the metrics cannot be had", failure)
            request.setResponseCode(INTERNAL_SERVER_ERROR)
            request.finish()


class _Once(Collector):
    """Families as an encoder wants them."""

    def __init__(self, families: Iterable[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        return self._families


def _families(values: Iterable[Values]) -> Iterator[Family]:
    for metric, value in named(values):
        # It puts the _total of a counter back by itself.
        name = metric.name.removesuffix("_total")
        family = Family(name, f"{metric.help}.", metric.kind)
        total = "_total" if metric.kind == "counter" else ""
        for suffix, labels, number in samplesOf(metric, value):
            family.add_sample(f"{name}{total}{suffix}", labels, number)
        yield family
