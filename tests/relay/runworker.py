"""A worker in a process of its own, to be killed: runworker.py URL PORT NAME FILE

It says EHLO with its NAME, and notes in FILE the subject of each message whose 250 it has read.
"""

from __future__ import annotations

import os
import sys

from twisted.internet import reactor
from twisted.internet.defer import Deferred

from mailsrv.client.envelope import Envelope, SendResult
from mailsrv.client.transport import EsmtpTransport
from relay.relayworld import World, connector

url, port, name, file = sys.argv[1:]
read = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
connect = connector(lambda: int(port), helo=name)


class Noting(EsmtpTransport):
    """Notes an answer before anybody else hears of it."""

    def send(self, envelope: Envelope) -> Deferred[SendResult]:
        return super().send(envelope).addCallback(self._note, envelope)

    def _note(self, result: SendResult, envelope: Envelope) -> SendResult:
        if result.isDelivered:
            assert isinstance(envelope.content, bytes)
            os.write(read, envelope.content.split(b"Subject: ")[1])
        return result


def noting(transport: EsmtpTransport) -> EsmtpTransport:
    transport.__class__ = Noting
    return transport


World(url, isNew=False).worker(
    name, connect=lambda hop: connect(hop).addCallback(noting), lease=2.0, held=20
).start()
reactor.run()  # type: ignore[attr-defined]
