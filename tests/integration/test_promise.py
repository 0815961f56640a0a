"""The promise: a 250 means the message is committed, its exact octets, whatever happens next."""

from __future__ import annotations

import hashlib
import os
import random
import re
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from corpusfiles import corpus
from integration.realserver import Server, StartServer
from rawsmtp import RawSmtp, onTheWire

MIB = 1 << 20
SENDERS = 8


def idIn(reply: str) -> str:
    match = re.fullmatch(r"250 2\.0\.0 OK id=(\w{26})\r\n", reply)
    assert match is not None, reply
    return match[1]


def stored(server: Server, messageId: str) -> bytes:
    [(data,)] = server.rows("SELECT data FROM messages WHERE id = ?", messageId)
    parts = server.rows(
        "SELECT data FROM message_parts WHERE message_id = ? ORDER BY seq", messageId
    )
    return b"".join([data, *(part for (part,) in parts)])


class Ledger:
    """What senders were promised: the digests of what was answered 250, by id, until the server is
    gone. A message has up to `most` octets."""

    def __init__(self, most: int) -> None:
        self.promised: dict[str, bytes] = {}
        self.sent: set[bytes] = set()
        self._line = b"x" * 62 + b"\r\n"
        self._mostLines = most // len(self._line)
        self._lock = threading.Lock()

    def run(self, port: int, sender: int, round_: int) -> None:
        try:
            with RawSmtp(port) as client:
                client.command("EHLO client.example")
                for number in range(1_000_000):
                    body = b"Subject: %d-%d-%d\r\n\r\n" % (round_, sender, number)
                    body += self._line * random.randrange(self._mostLines)
                    body += self._line[random.randrange(len(self._line) - 1) :]
                    digest = hashlib.sha256(body).digest()
                    client.envelope()
                    with self._lock:
                        self.sent.add(digest)
                    id = idIn(client.content(body))
                    with self._lock:
                        self.promised[id] = digest
        except (ConnectionError, TimeoutError):
            return


def killRounds(startServer: StartServer, tmp_path: Path, rounds: int, most: int) -> None:
    db, ledger = tmp_path / "mail.db", Ledger(most)
    for round_ in range(rounds):
        server = startServer(db=db)
        port, begun = server.port, len(ledger.promised)
        with ThreadPoolExecutor(SENDERS) as senders:
            runs = [senders.submit(ledger.run, port, n, round_) for n in range(SENDERS)]
            killAt = begun + random.randrange(20, 200)
            deadline = time.monotonic() + 30
            while len(ledger.promised) < killAt and time.monotonic() < deadline:
                time.sleep(0.001)
            server.process.send_signal(signal.SIGKILL)
            for run in runs:
                run.result(60)
        server.process.wait(30)
    server = startServer(db=db)
    rows = {
        id: hashlib.sha256(stored(server, id)).digest()
        for (id,) in server.rows("SELECT id FROM messages")
    }
    lost = [id for id, digest in ledger.promised.items() if rows.get(id) != digest]
    digests = list(rows.values())
    print(
        f"{rounds} rounds: {len(ledger.promised)} promised, {len(rows)} stored,"
        f" {len(lost)} lost, {len(digests) - len(set(digests))} stored twice"
    )
    assert len(ledger.promised) >= 20 * rounds
    assert lost == []
    assert len(set(digests)) == len(digests)
    assert set(digests) <= ledger.sent
    owners = server.rows("SELECT COUNT(*) FROM recipients")[0][0]
    assert owners == len(rows)


# The large ones have SQLite's log copied into its file several times a round.
smallAndLarge = pytest.mark.parametrize("most", [900, MIB], ids=["900 octets", "1 MiB"])


@smallAndLarge
def test_what_was_answered_250_outlives_a_kill_at_any_moment(
    startServer: StartServer, tmp_path: Path, most: int
) -> None:
    killRounds(startServer, tmp_path, 3, most)


@pytest.mark.torture
@smallAndLarge
def test_what_was_answered_250_outlives_twenty_kills(
    startServer: StartServer, tmp_path: Path, most: int
) -> None:
    killRounds(startServer, tmp_path, 20, most)


@pytest.mark.databases
def test_the_corpus_is_stored_octet_for_octet(startServer: StartServer) -> None:
    server = startServer("--max-line", "0", "--bare-newlines", "accept")
    sent = {}
    with RawSmtp(server.port) as client:
        client.command("EHLO client.example")
        for name, octets in corpus():
            client.envelope()
            sent[idIn(client.content(octets))] = (name, octets)
    for id, (name, octets) in sent.items():
        # DATA can only carry whole lines.
        whole = octets if octets.endswith(b"\r\n") else octets + b"\r\n"
        assert stored(server, id) == whole, name
    assert len(sent) == len(corpus())


def peakMemory(server: Server) -> int:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024


@pytest.mark.databases
def test_eight_times_50_mib_at_once_take_little_memory_and_hold_nobody_up(
    startServer: StartServer,
) -> None:
    server = startServer()
    line = b"%064x" % 0xDEADBEEF + b"\r\n"
    large = line * (50 * MIB // len(line))
    digest = hashlib.sha256(large).hexdigest()
    # Once, and before: eight threads that copy 50 MiB would keep the one that measures from running.
    prepared = onTheWire(large)
    with RawSmtp(server.port) as warm:  # what the first message alone costs is not the point
        warm.begin()
        idIn(warm.content(line * 1000))
        before = peakMemory(server)

        def sendLarge(_: int) -> str:
            with RawSmtp(server.port, limit=120) as client:
                client.begin()
                client.send(prepared)
                return idIn(client.reply())

        slowest = 0.0
        with ThreadPoolExecutor(8) as senders:
            runs = [senders.submit(sendLarge, n) for n in range(8)]
            while not all(run.done() for run in runs):
                began = time.monotonic()
                warm.envelope()
                idIn(warm.content(line * 60))
                slowest = max(slowest, time.monotonic() - began)
        ids = [run.result() for run in runs]
        grown = peakMemory(server) - before
    print(f"memory grew by {grown / MIB:.1f} MiB; 4 KiB took {slowest:.3f} s at most")
    assert grown < 64 * MIB
    # A server whose coverage is measured is several times slower.
    assert slowest < (3.0 if "COVERAGE_PROCESS_CONFIG" in os.environ else 1.0)
    assert {sha for (sha,) in server.rows("SELECT sha256 FROM messages WHERE size > ?", MIB)} == {
        digest
    }
    assert hashlib.sha256(stored(server, ids[0])).hexdigest() == digest
