"""Next hops that say anything at any time, by chance: what must be true of all of them."""

from __future__ import annotations

import random

import pytest
from twisted.python.failure import Failure

from relay.hostilehop import OK, HopSession, HostileRelay
from relay.relaysupport import makeItem

KEYWORDS = (
    *(b"PIPELINING", b"CHUNKING", b"BINARYMIME", b"SIZE 100000", b"8BITMIME", b"DSN"),
    *(b"SMTPUTF8", b"STARTTLS"),
)
LETTERS = (
    b"Subject: x\r\n\r\n.dots\r\nend\r\n",
    b"Subject: x\r\n\r\nno\nend",
    b"Subject: \xff\r\n\r\n..\r\nno end",
    b"Subject: x\r\n\r\n" + b"y" * 78 + b"\r\n" * 70_000,
)
POINTS = ("CONNECT", "EHLO", "HELO", "MAIL", "RCPT", "DATA", ".", "BDAT", "RSET", "QUIT")
CODES = (220, 221, 250, 251, 252, 334, 354, 421, 450, 451, 452, 500, 550, 551, 552, 555, 199, 600)
LONGEST = 6000.0  # seconds until each of three messages, one after the other, is settled


class Chance(random.Random):
    """What a hop says."""

    def line(self, separator: bytes = b" ") -> bytes:
        return b"%d%s2.0.0 <a@b.example>\r\n" % (self.choice(CODES), separator)

    def reply(self, proper: bytes) -> bytes:
        """Octets in place of the proper reply; often that itself."""
        kinds = (
            lambda: proper,
            lambda: OK,
            lambda: self.line(),
            lambda: self.line(b"-") + self.line(),
            lambda: proper[: self.randrange(len(proper))],
            lambda: proper + self.reply(proper),
            lambda: self.randbytes(self.randrange(30)) + b"\r\n",
            lambda: b"",
            lambda: OK * self.randrange(5),
            lambda: b"250-x\r\n" * self.randrange(300) + OK,
        )
        return self.choices(kinds, weights=(6, 2, 3, 1, 1, 1, 1, 1, 1, 1))[0]()

    def answer(self, session: HopSession, point: str) -> None:
        octets = self.reply(session.proper(point))
        cut = self.randrange(len(octets) + 1)
        session.say(octets[:cut], self.choice((0, 0, 0, 0.1, 5, 100)))
        session.say(octets[cut:], self.choice((0, 0, 0, 0.2, 6, 130)))
        if self.random() < 0.08:
            session.hangUp()
        if self.random() < 0.03:
            session.isDeaf = True

    def relay(self) -> HostileRelay:
        """Three messages, and a hop that is strange at some points or at all."""
        keywords = [b"mx", *self.sample(KEYWORDS, self.randrange(len(KEYWORDS) + 1))]
        ehlo = b"".join(b"250-%s\r\n" % each for each in keywords) + b"250 HELP\r\n"
        relay = HostileRelay(self.choice(LETTERS), EHLO=ehlo)
        size = {"size": len(relay.queue.octets)}
        relay.queue.add(makeItem(2, message=size))
        relay.queue.add(makeItem(3, message=size, parameters="NOTIFY=SUCCESS ORCPT=rfc822;x@y"))
        often = self.choice((0.1, 0.3, 1.0))
        for point in POINTS:
            if self.random() < often:
                relay.hop.answers[point] = lambda session, point=point: self.answer(session, point)
        return relay


def meet(seed: int, caught: list[Failure]) -> None:
    relay = Chance(seed).relay()
    relay.run()
    relay.awaitAll(LONGEST)
    sent = b"".join(session.sent for session in relay.hop.sessions)
    letter = relay.queue.octets
    for row in relay.queue.rows.values():
        # What it says of itself is the hop's business; but nothing is sent that was not written.
        isWritten = letter in sent or letter.replace(b"\r\n.", b"\r\n..") in sent
        assert isWritten or row.state != "sent", seed
        assert row.state == {"2": "sent", "4": "waiting", "5": "failed"}[row.reply[0]], seed
    relay.worker.stop(5)
    relay.wait(seconds=700)
    assert all(session.ending for session in relay.hop.sessions), seed
    assert relay.clock.getDelayedCalls() == [], seed
    assert caught == [], seed


def test_nothing_hangs_fails_or_is_made_up(caught: list[Failure]) -> None:
    for seed in range(300):
        meet(seed, caught)


@pytest.mark.torture
def test_nothing_ever_hangs_fails_or_is_made_up(caught: list[Failure]) -> None:
    for seed in range(300, 20_000):
        meet(seed, caught)
    print("\n19700 hops, 59100 messages: each settled in time, none said to be sent that was not")
