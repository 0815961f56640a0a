"""What senders were answered, against what is stored."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from integration.realserver import LIMIT
from rawsmtp import RawSmtp

SENDERS = 8


@dataclass(frozen=True)
class Difference:
    """Subjects. Lost: accepted and not there as it was said. Phantom: refused and there.
    Doubled: there twice. Strange: there though nobody sent it."""

    lost: list[str]
    phantom: list[str]
    doubled: list[str]
    strange: list[str]

    @property
    def isNone(self) -> bool:
        return not (self.lost or self.phantom or self.doubled or self.strange)

    def __str__(self) -> str:
        return (
            f"lost {len(self.lost)}, phantom {len(self.phantom)}, doubled {len(self.doubled)},"
            f" strange {len(self.strange)}"
        )


class Ledger:
    """What became of each message by its subject: the id of its 250, or the reply that refused it.

    Nobody sends a subject twice.
    """

    def __init__(self) -> None:
        self.accepted: dict[str, str] = {}
        self.refused: dict[str, str] = {}
        self.unanswered: set[str] = set()
        self._isOver = False

    @contextmanager
    def sending(self, port: int) -> Iterator[None]:
        """Have messages sent by several senders at once, for as long as this lasts."""
        with ThreadPoolExecutor(SENDERS) as senders:
            runs = [senders.submit(self._run, port, number) for number in range(SENDERS)]
            try:
                yield
            finally:
                self._isOver = True
                for run in runs:
                    run.result(3 * LIMIT)

    def _run(self, port: int, sender: int) -> None:
        number = 0
        while not self._isOver:
            try:
                with RawSmtp(port) as client:
                    client.command("EHLO client.example")
                    while not self._isOver:
                        number += 1
                        subject = f"{sender}-{number}"
                        client.envelope()
                        self.unanswered.add(subject)
                        self._note(subject, client.content(_text(subject)))
            except (ConnectionError, AssertionError):
                time.sleep(0.02)  # as a sender does, only sooner

    def _note(self, subject: str, reply: str) -> None:
        self.unanswered.discard(subject)
        if reply.startswith("250 "):
            self.accepted[subject] = reply.split("id=")[1].strip()
        else:
            self.refused[subject] = reply

    def awaitMore(self, count: int = SENDERS) -> None:
        """Wait until so many more messages have been accepted."""
        wanted = len(self.accepted) + count
        deadline = time.monotonic() + 2 * LIMIT
        while len(self.accepted) < wanted:
            assert time.monotonic() < deadline, "mail is not taken any more"
            time.sleep(0.005)

    def compare(self, rows: Callable[[], Sequence[tuple[str, str]]]) -> Difference:
        """With the subjects and ids that `rows` gives.

        What is refused and there has until LIMIT to be taken out again.
        """
        deadline = time.monotonic() + LIMIT
        while True:
            stored = rows()
            subjects = Counter(subject for subject, _ in stored)
            ids = dict(stored)
            difference = Difference(
                [subject for subject, id in self.accepted.items() if ids.get(subject) != id],
                [subject for subject in self.refused if subject in subjects],
                [subject for subject, count in subjects.items() if count > 1],
                sorted(set(subjects) - {*self.accepted, *self.refused, *self.unanswered}),
            )
            if not difference.phantom or time.monotonic() > deadline:
                return difference
            time.sleep(0.05)

    @property
    def refusals(self) -> Counter[str]:
        """How often which code was said."""
        return Counter(reply[:9] for reply in self.refused.values())

    def __str__(self) -> str:
        refusals = ", ".join(f"{reply}: {count}" for reply, count in self.refusals.items())
        return (
            f"{len(self.accepted)} answered 250, {len(self.refused)} refused ({refusals or '-'}),"
            f" {len(self.unanswered)} without an answer"
        )


def _text(subject: str) -> bytes:
    return f"Subject: {subject}\r\n\r\n".encode() + b"A line of it.\r\n" * random.randrange(300)
