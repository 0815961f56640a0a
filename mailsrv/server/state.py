"""The states of a session, and which verbs each allows (RFC 5321 §4.1.4)."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from mailsrv.smtp import reply as r
from mailsrv.smtp.reply import Reply


class State(Enum):
    """Where a session stands; what the protocol does with the next octets follows from it."""

    GREETING = auto()  # a policy, or a PROXY header, is awaited
    CONNECTED = auto()  # greeted, no HELO yet
    READY = auto()  # no transaction
    MAIL = auto()  # a sender, no recipient yet
    RCPT = auto()  # a sender and at least one recipient
    CHUNKS = auto()  # between two BDAT
    DATA = auto()  # raw octets, ended by a dot
    CHUNK = auto()  # raw octets, counted
    LINES = auto()  # an extension's dialogue
    STORING = auto()  # the message is being committed
    TLS = auto()  # the connection turns to TLS
    CLOSED = auto()  # the last reply has been said

    __hash__ = object.__hash__  # Enum's own is written in Python, and asked with every command


_ANYTIME = frozenset(
    {"EHLO", "LHLO", "STARTTLS", "AUTH", "NOOP", "RSET", "VRFY", "EXPN", "HELP", "QUIT"}
    | {"SEND", "SOML", "SAML", "TURN"}
)
_NOTHING: frozenset[str] = frozenset()

ALLOWED: Mapping[State, frozenset[str]] = {
    State.GREETING: _NOTHING,
    State.CONNECTED: _ANYTIME | {"HELO"},
    State.READY: _ANYTIME | {"MAIL"},
    State.MAIL: _ANYTIME | {"RCPT"},
    State.RCPT: _ANYTIME | {"RCPT", "DATA", "BDAT"},
    State.CHUNKS: _ANYTIME | {"BDAT"},
    State.DATA: _NOTHING,
    State.CHUNK: _NOTHING,
    State.LINES: _NOTHING,
    State.STORING: _NOTHING,
    State.TLS: _NOTHING,
    State.CLOSED: _NOTHING,
}

RAW = frozenset({State.DATA, State.CHUNK})

# The verbs that have a place in the sequence; any other, an extension's own, is allowed whenever
# commands are.
SEQUENCED = frozenset({"HELO", "MAIL", "RCPT", "DATA", "BDAT"})

_REFUSALS: Mapping[tuple[State, str], Reply] = {
    (State.CONNECTED, "MAIL"): r.HELO_FIRST,
    (State.CONNECTED, "RCPT"): r.HELO_FIRST,
    (State.CONNECTED, "DATA"): r.HELO_FIRST,
    (State.CONNECTED, "BDAT"): r.HELO_FIRST,
    (State.READY, "HELO"): r.HELO_TWICE,
    (State.READY, "RCPT"): r.MAIL_FIRST,
    (State.READY, "DATA"): r.MAIL_FIRST,
    (State.READY, "BDAT"): r.MAIL_FIRST,
    (State.MAIL, "HELO"): r.HELO_TWICE,
    (State.MAIL, "MAIL"): r.NESTED_MAIL,
    (State.MAIL, "DATA"): r.RCPT_FIRST,
    (State.MAIL, "BDAT"): r.RCPT_FIRST,
    (State.RCPT, "HELO"): r.HELO_TWICE,
    (State.RCPT, "MAIL"): r.NESTED_MAIL,
    (State.CHUNKS, "HELO"): r.HELO_TWICE,
    (State.CHUNKS, "MAIL"): r.NESTED_MAIL,
}


def refusal(state: State, verb: str) -> Reply | None:
    """None where `verb` is in sequence, else the 503 that says what is missing."""
    if verb in ALLOWED[state] or (verb not in SEQUENCED and ALLOWED[state]):
        return None
    return _REFUSALS.get((state, verb), r.BAD_SEQUENCE)
