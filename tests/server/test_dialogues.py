"""Every dialogue of tests/dialogues, fed whole, octet by octet, and cut at each position.

A dialogue is a text file:

    # a comment: what it is about, which rule
    @ limits maxSize=64         settings, before the first line: limits, factory, listener, peer,
                                directory (static, sink), store (recording, held)
    S: 220 mx.example.org {*}   a reply line; {*} is any text, <id> a message's id
    C: NOOP                     a line of the client, CRLF added
    C> A\\r\\n\\x00\\{x*30}        octets of the client as they are; \\{x*30} is thirty x
    @ wait                      all replies above must have come before the client goes on
    @ clock 601                 seconds pass
    @ answer / commit / fail Unavailable / shutdown   what has waited is answered; the server stops
    @ stored Subject: x\\r\\n     octets of a message that was stored, in order; then the same, no more
    @ closed                    the server has ended the connection (else it must be open)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mailsrv.server.site import Listener
from mailsrv.smtp import errors
from mailsrv.testing import HeldStore
from smtpconversation import (
    PLAIN,
    Client,
    RecordingStore,
    Server,
    SinkDirectory,
    StaticDirectory,
    limited,
)

DIALOGUES = sorted((Path(__file__).parent.parent / "dialogues").glob("*.txt"))
SETTINGS = ("limits", "factory", "listener", "peer", "directory", "store")

Feed = Callable[[bytes, int], Iterable[bytes]]  # a segment and where in the stream it begins


@dataclass
class Step:
    """What the client sends, what is done then, and which replies must have come by that time."""

    octets: bytes = b""
    replies: list[str] = field(default_factory=list)
    action: str = "wait"
    argument: str = ""


@dataclass
class Dialogue:
    settings: dict[str, str] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=lambda: [Step()])
    stored: list[bytes] = field(default_factory=list)
    isClosed: bool = False

    @property
    def length(self) -> int:
        return sum(len(step.octets) for step in self.steps)


def octetsOf(text: str) -> bytes:
    """Text with the escapes above as octets."""
    text = re.sub(r"\\\{(.+?)\*(\d+)\}", lambda match: match[1] * int(match[2]), text)
    return re.sub(
        rb"\\(x[0-9a-f]{2}|.)",
        lambda match: (
            {b"r": b"\r", b"n": b"\n", b"\\": b"\\"}.get(match[1])
            or bytes.fromhex(match[1][1:].decode())
        ),
        text.encode(),
    )


def read(path: Path) -> Dialogue:
    dialogue = Dialogue()
    for line in path.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        kind, text = line[:2], line[3:]
        step = dialogue.steps[-1]
        if kind == "C:":
            step.octets += octetsOf(text) + b"\r\n"
        elif kind == "C>":
            step.octets += octetsOf(text)
        elif kind == "S:":
            step.replies.append(text)
        else:
            word, _, argument = line.removeprefix("@ ").partition(" ")
            if word in SETTINGS:
                dialogue.settings[word] = argument
            elif word == "stored":
                dialogue.stored.append(octetsOf(argument))
            elif word == "closed":
                dialogue.isClosed = True
            else:
                step.action, step.argument = word, argument
                dialogue.steps.append(Step())
    return dialogue


def options(text: str) -> dict[str, Any]:
    return {
        name: int(value)
        for name, value in (word.split("=") for word in text.split() if "=" in word)
    }


def begin(settings: dict[str, str]) -> tuple[Server, Client]:
    server = Server(
        store=HeldStore() if settings.get("store") == "held" else RecordingStore(),
        directory=SinkDirectory() if settings.get("directory") == "sink" else StaticDirectory(),
        limits=limited(**options(settings.get("limits", ""))),
        **options(settings.get("factory", "")),
    )
    listener = Listener(isLmtp=settings.get("listener") == "lmtp")
    return server, server.connect(peer=settings.get("peer", PLAIN), listener=listener)


def run(dialogue: Dialogue, feed: Feed) -> list[bytes]:
    """Hold the dialogue; what was said in each step."""
    server, client = begin(dialogue.settings)
    said = []
    position = 0
    for step in dialogue.steps:
        replies = client.heard()
        for piece in feed(step.octets, position):
            if not client.wire.disconnecting:  # who is closed by us is not heard any more
                replies += client.send(piece)
        position += len(step.octets)
        said.append(replies)
        act(server, step)
    assert client.isOpen is not dialogue.isClosed
    if isinstance(server.store, RecordingStore):
        assert server.store.contents == dialogue.stored
    if client.wire.ending != "aborted":
        client.leave()
    assert server.factory.site.budget.memory.held == 0, "octets nobody wants any more are held"
    return said


def act(server: Server, step: Step) -> None:
    if step.action == "clock":
        server.clock.advance(float(step.argument))
    elif step.action == "answer":
        server.directory.answer()
    elif step.action == "commit":
        server.store.commit()
    elif step.action == "fail":
        server.store.fail(getattr(errors, step.argument)("a secret of ours"))
    elif step.action == "shutdown":
        server.factory.shutdown()
    else:
        assert step.action == "wait", step.action


def whole(octets: bytes, position: int) -> Iterator[bytes]:
    yield octets


def byOctets(octets: bytes, position: int) -> Iterator[bytes]:
    for index in range(len(octets)):
        yield octets[index : index + 1]


def cutAt(cut: int) -> Feed:
    def feed(octets: bytes, position: int) -> Iterator[bytes]:
        local = cut - position
        if 0 < local < len(octets):
            yield octets[:local]
            yield octets[local:]
        else:
            yield octets

    return feed


def pattern(line: str) -> str:
    return ".*".join(map(re.escape, line.split("{*}")))


@pytest.mark.parametrize("path", DIALOGUES, ids=lambda path: path.stem)
def test_a_dialogue_goes_as_written_however_its_octets_are_cut(path: Path) -> None:
    dialogue = read(path)
    said = run(dialogue, whole)
    for replies, step in zip(said, dialogue.steps, strict=True):
        assert replies.endswith(b"\r\n") or not replies
        lines = replies.decode().split("\r\n")[:-1]
        for heard, expected in zip(lines, step.replies, strict=False):
            assert re.fullmatch(pattern(expected), heard), f"{heard!r} is not {expected!r}"
        assert len(lines) == len(step.replies), (lines, step.replies)
    assert run(dialogue, byOctets) == said
    for cut in range(1, dialogue.length):
        assert run(dialogue, cutAt(cut)) == said, f"cut at {cut}"
