"""Received, queued and relayed: the octets that come out are those that went in."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from corpusfiles import CORPUS, corpus
from integration.keepers import AiosmtpdKeeper, Keeper, SmtpSinkKeeper, SmtpstoreKeeper
from integration.realserver import LIMIT, Server, StartServer
from mailsrv.smtp.content import hasBareNewline
from rawsmtp import RawSmtp

LENIENT = ("--bare-newlines", "accept", "--max-line", "0")
# Lines with a dot, and how far into them it stands.
LINES = {b".\r\n": 0, b".x\r\n": 0, b"..\r\n": 0, b"x.\r\n": 1}


@pytest.fixture(params=["smtpstore", "smtp-sink", "aiosmtpd"])
def keeper(
    request: pytest.FixtureRequest,
    startServer: StartServer,
    tmp_path: Path,
    tool: Callable[[str], str],
) -> Iterator[Keeper]:
    """The next hop."""
    kept = tmp_path / "kept"
    kept.mkdir()
    made: Keeper
    if request.param == "smtpstore":
        made = SmtpstoreKeeper(startServer(*LENIENT))
    elif request.param == "smtp-sink":
        made = SmtpSinkKeeper(tool("smtp-sink"), kept)
    else:
        pytest.importorskip(
            "aiosmtpd", reason="aiosmtpd is not installed: pip install -e '.[bench]'"
        )
        made = AiosmtpdKeeper(kept)
    yield made
    made.close()


@pytest.fixture
def relay(startServer: StartServer, keeper: Keeper) -> Server:
    """A server that takes whatever it is given, for anybody, and hands it on."""
    return startServer(
        *("--domain", "example.com", "--relay-client", "127.0.0.1", *LENIENT),
        *("--smart-host", f"smtp://127.0.0.1:{keeper.port}"),
    )


def handIn(relay: Server, contents: Iterable[bytes]) -> dict[str, bytes]:
    """Octets by id: by DATA where that carries them as they are, else by BDAT.

    The sender is nobody, so that no report is sent.
    """
    taken = {}
    with RawSmtp(relay.port) as client:
        client.command("EHLO client.example")
        for octets in contents:
            client.send(b"MAIL FROM:<>\r\nRCPT TO:<any@elsewhere.test>\r\n")
            assert client.reply().startswith("250 ")
            assert client.reply().startswith("250 ")
            if octets.endswith(b"\r\n") and not hasBareNewline(octets):
                assert client.command("DATA").startswith("354 ")
                reply = client.content(octets)
            else:
                client.send(b"BDAT %d LAST\r\n" % len(octets) + octets)
                reply = client.reply()
            found = re.match(r"250 .* id=(\w+)", reply)
            assert found, reply
            taken[found[1]] = octets
    return taken


def traces(relay: Server) -> dict[str, bytes]:
    """What each message is relayed behind, by id."""
    rows = relay.rows("SELECT id, trace FROM messages")
    return {id: trace.encode()[trace.index("Received: ") :] for id, trace in rows}


def arrives(relay: Server, keeper: Keeper, taken: dict[str, bytes]) -> int:
    """All that can be sent is there once, to the octet; how many octets in all.

    Bare newlines go by BDAT or not at all; by DATA a last line without its end gets one.
    """
    front = traces(relay)
    wanted = []
    for id, octets in taken.items():
        if keeper.isExact:
            wanted.append(front[id] + octets)
        elif not hasBareNewline(octets + b"x"):
            wanted.append(front[id] + octets + (b"" if octets.endswith(b"\r\n") else b"\r\n"))
    deadline = time.monotonic() + 3 * LIMIT
    settled = "SELECT state, COUNT(*) FROM queue GROUP BY state ORDER BY state DESC"
    expected = [("sent", len(wanted)), ("failed", len(taken) - len(wanted))]
    while relay.rows(settled) != [row for row in expected if row[1]]:
        assert time.monotonic() < deadline, (relay.rows(settled), expected)
        time.sleep(0.05)
    arrived = keeper.contents()
    missing, strange = Counter(wanted) - Counter(arrived), Counter(arrived) - Counter(wanted)
    # Not the octets themselves: nobody wants to read the difference of two megabytes.
    assert [each[:200] for each in missing.elements()] == []
    assert [each[:200] for each in strange.elements()] == []
    return sum(map(len, wanted))


def filler(octets: int) -> bytes:
    """Lines of x, so many octets in all, none of one octet."""
    lines, rest = divmod(octets, 80)
    if rest == 1:
        lines, rest = lines - 1, 81
    last = b"x" * (rest - 2) + b"\r\n" if rest else b""
    return (b"x" * 78 + b"\r\n") * lines + last


def dotted(number: int, offset: int, trace: int, line: bytes, tail: bytes) -> bytes:
    """A message with a dot at `offset` of what is relayed, and of what is stored."""
    octets = b"Subject: %d\r\n\r\n" % number
    for at in (offset - trace, offset):
        octets += filler(at - LINES[line] - len(octets)) + line
        assert octets[at : at + 1] == b"."
    return octets + tail


def around(powers: Iterable[int], reach: int, trace: int) -> list[bytes]:
    """Messages with each kind of line at each offset around each power of two; it is the last
    line, or not."""
    cases = [
        (2**power + step, line, tail)
        for power in powers
        for step in range(-reach, reach + 1)
        for line in LINES
        for tail in (b"", b"The end.\r\n.\r\n")
    ]
    return [dotted(number, at, trace, *case) for number, (at, *case) in enumerate(cases)]


def relayDots(relay: Server, keeper: Keeper, powers: Iterable[int], reach: int) -> str:
    first = handIn(relay, [b"Subject: the first\r\n\r\n"])
    [trace] = traces(relay).values()
    taken = first | handIn(relay, around(powers, reach, len(trace)))
    octets = arrives(relay, keeper, taken)
    assert {len(each) for each in traces(relay).values()} == {len(trace)}
    return f"{len(taken)} messages, {octets} octets"


def test_dots_around_powers_of_two_are_relayed_as_they_came(relay: Server, keeper: Keeper) -> None:
    relayDots(relay, keeper, [10, 16, 20], 1)


@pytest.mark.torture
def test_dots_at_every_offset_around_every_power_of_two(
    relay: Server, keeper: Keeper, request: pytest.FixtureRequest
) -> None:
    told = relayDots(relay, keeper, range(10, 21), 4)
    print(f"\n{request.node.callspec.id}: {told}, each once and to the octet")


def test_the_corpus_is_relayed_as_it_came(relay: Server, keeper: Keeper) -> None:
    octets = [each for _, each in corpus()]
    octets += [path.read_bytes() for path in sorted(CORPUS.rglob("*.raw"))]
    arrives(relay, keeper, handIn(relay, octets))
