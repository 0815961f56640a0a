"""Workers are killed while they relay: what has arrived twice, and why."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest
import pytest_twisted
from twisted.internet.defer import gatherResults

from mailsrv.relay.limits import RelayLimits
from mailsrv.smtp.message import Message, Summary
from relay.relayworld import RELAYED, Sink, World, now, until

ROOT = Path(__file__).parents[2]
RUN_WORKER = Path(__file__).with_name("runworker.py")
ON_BOTH = pytest.mark.parametrize("url", ["sqlite", "mariadb"], indirect=True)
SETTLED = (
    "SELECT m.subject FROM queue q JOIN messages m ON m.id = q.message_id WHERE q.state = 'sent'"
)


def contentOf(subject: str) -> bytes:
    return f"Subject: {subject}\r\n\r\n".encode()


@dataclass
class Process:
    """A worker, known to the sink by its name.

    `died`: when it was surely gone. `settled`: the subjects that the queue calls sent by then.
    `read`: those whose answer it had read.
    """

    name: str
    handle: subprocess.Popen[bytes]
    file: Path
    died: datetime | None = None
    settled: frozenset[str] = frozenset()
    read: frozenset[str] = frozenset()


@dataclass
class Killing:
    """Two workers on one queue, each killed when its hour comes, and what the sink saw of it."""

    world: World
    sink: Sink
    directory: Path
    chance: random.Random = field(default_factory=lambda: random.Random(5))
    processes: dict[str, Process] = field(default_factory=dict)

    async def relay(self, count: int, kills: int) -> None:
        subjects = [f"{number}" for number in range(count)]
        await gatherResults(
            [self.world.put(contentOf(each), summary=Summary(each)) for each in subjects]
        )
        running = [self.start() for _ in range(2)]
        try:
            for _ in range(kills):
                arrived = len(self.sink.messages)
                goal = min(count - 1, arrived + self.chance.randint(1, max(1, count // kills)))
                await until(lambda goal=goal: len(self.sink.messages) >= goal, 60)
                victim = self.chance.randrange(2)
                self.kill(running[victim])
                running[victim] = self.start()
            await until(lambda: self.world.states() == {"sent"}, 120)
        finally:
            for process in running:
                self.kill(process)

    def start(self) -> Process:
        name = f"w{len(self.processes)}.relay.example"
        file = self.directory / name
        command = [sys.executable, RUN_WORKER, self.world.url, str(self.sink.port), name, file]
        env = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"}
        process = Process(name, subprocess.Popen(command, env=env), file)
        self.processes[name] = process
        return process

    def kill(self, process: Process) -> None:
        process.handle.kill()
        process.handle.wait()
        process.died = now()
        process.settled = frozenset(subject for (subject,) in self.world.rows(SETTLED))
        if process.file.exists():
            process.read = frozenset(process.file.read_text().split())

    def arrivals(self) -> dict[str, list[Message]]:
        """What the sink has taken, by subject, in order."""
        arrivals: dict[str, list[Message]] = defaultdict(list)
        for message, octets in zip(self.sink.messages, self.sink.contents, strict=True):
            subject = octets.removeprefix(RELAYED + b"Subject: ").decode().strip()
            assert octets == RELAYED + contentOf(subject)
            arrivals[subject].append(message)
        return arrivals

    def assertAccountedFor(self, count: int, kills: int) -> str:
        """All have arrived. One has arrived again only where whoever had sent it was killed
        between the sink's 250 and the row's COMMIT; and wherever that was so, it has."""
        arrivals = self.arrivals()
        assert set(arrivals) == {f"{number}" for number in range(count)}
        cut = {
            (subject, message.helo)
            for subject, messages in arrivals.items()
            for message in messages
            if subject not in self.processes[message.helo].settled
        }
        repeated = set()
        for subject, messages in arrivals.items():
            for message, next_ in pairwise(messages):
                died = self.processes[message.helo].died
                assert died is not None
                assert next_.receivedAt > died, f"{subject} was sent again by who had not died"
                repeated.add((subject, message.helo))
        assert repeated <= cut, f"sent again though settled: {repeated - cut}"
        if self.world.url.startswith("sqlite:"):  # which commits nothing for the dead
            assert repeated == cut
        perKill = Counter(name for _, name in repeated)
        limits = RelayLimits()
        assert len(repeated) <= kills * limits.connectionsPerHop
        assert max(perKill.values(), default=0) <= limits.connectionsPerHop
        isRead = sum(subject in self.processes[name].read for subject, name in repeated)
        total = sum(map(len, arrivals.values()))
        return (
            f"{count} messages, {kills} kills of {len(self.processes)} processes: {total} arrived,"
            f" lost 0, twice {total - count}: of the first ones' 250s {isRead} were read by a"
            f" process that died before its COMMIT, {total - count - isRead} were not read;"
            f" at most {max(perKill.values(), default=0)} a kill; twice without a kill 0"
        )


@pytest.fixture
def killing(world: World, sink: Sink, tmp_path: Path) -> Killing:
    return Killing(world, sink, tmp_path)


@ON_BOTH
@pytest_twisted.ensureDeferred
async def test_workers_may_be_killed_and_all_mail_arrives(killing: Killing) -> None:
    await killing.relay(count=150, kills=3)
    killing.assertAccountedFor(150, 3)


@pytest.mark.torture
@ON_BOTH
@pytest_twisted.ensureDeferred
async def test_each_of_two_thousand_messages_is_accounted_for_after_many_kills(
    killing: Killing, request: pytest.FixtureRequest
) -> None:
    await killing.relay(count=2000, kills=20)
    told = killing.assertAccountedFor(2000, 20)
    print(f"\n{request.node.callspec.id}: {told}")
