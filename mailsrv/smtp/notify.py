"""What a sender wants to be told of: the parameters of RFC 3461, as they are stored."""

from __future__ import annotations

from collections import Counter

from mailsrv.smtp.command import Parameters, formatParameters
from mailsrv.smtp.message import Message

_UNASKED = ("FAILURE", "DELAY")  # what one is told of without asking (§5.2.5, §5.2.6)


def readParameters(text: str) -> Parameters:
    """Parameters of MAIL or RCPT out of their column; they were checked before they got there."""
    words = (word.partition("=") for word in text.split())
    return {name.upper(): value if equals else None for name, equals, value in words}


def wants(parameters: str, event: str) -> bool:
    """Whether these parameters of RCPT ask for a report of SUCCESS, FAILURE or DELAY (§4.1)."""
    notify = readParameters(parameters).get("NOTIFY")
    return event in (_UNASKED if notify is None else notify.upper().split(","))


def withoutSuccess(parameters: str) -> str:
    """The parameters for each of several addresses behind one: what became of the message is
    told once, where it is expanded (§5.2.7.3 c)."""
    if not wants(parameters, "SUCCESS"):
        return parameters
    given = readParameters(parameters)
    notify = (given["NOTIFY"] or "").upper().split(",")
    rest = ",".join(event for event in notify if event != "SUCCESS") or "NEVER"
    return formatParameters({**given, "NOTIFY": rest}).strip()


def expanded(message: Message) -> frozenset[str]:
    """The accepted forward-paths that lead to more than one mailbox or address elsewhere."""
    places = Counter(forward.recipient for forward in message.forwards)
    places.update(each.address for each in message.recipients if each.userId is not None)
    return frozenset(address for address, count in places.items() if count > 1)
