"""What is sent, and what came of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from mailsrv.client.source import Source, sourceOf
from mailsrv.smtp.address import scanPath
from mailsrv.smtp.command import Parameters
from mailsrv.smtp.reply import Reply

_NAME = re.compile("[A-Za-z0-9][A-Za-z0-9-]*")
# Characters of a reply in which an address is looked for: it may be of any length, and all "<".
_LOOKED_AT = 4096
_VALUE = re.compile("[!-<>-~\u0080-\ud7ff\ue000-\U0010ffff]+")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A message to be sent: who sends it, whom it is for, its content.

    `sender`: local-part@domain without brackets, '' for <>. `recipients`: likewise; `postmaster`
    may stand alone. `content`: bytes, a mailsrv Content, a binary file (read from where it
    stands; reading must not block), or a producer of twisted.web's IBodyProducer shape. All but
    producers and files that cannot seek may be sent again. `parameters`, `recipientParameters`
    (by recipient): what the sender asked for, such as RET, ENVID, NOTIFY and ORCPT; extensions
    take theirs from it. Raises ValueError for a parameter that could not stand in a command,
    TypeError for content that is none of these.
    """

    sender: str
    recipients: tuple[str, ...]
    content: object
    parameters: Parameters = field(default_factory=dict)
    recipientParameters: Mapping[str, Parameters] = field(default_factory=dict)
    source: Source = field(init=False)

    def __post_init__(self) -> None:
        for parameters in (self.parameters, *self.recipientParameters.values()):
            for name, value in parameters.items():
                if not _NAME.fullmatch(name) or not (value is None or _VALUE.fullmatch(value)):
                    raise ValueError(f"not a parameter: {name!r}={value!r}")
        object.__setattr__(self, "recipients", tuple(self.recipients))
        object.__setattr__(self, "source", sourceOf(self.content))


@dataclass(frozen=True, slots=True)
class RecipientResult:
    """What came of one recipient.

    `reply`: to RCPT where it, or a command before it, was refused; else to the end of the
    content. A `mailsrv.smtp.local.LocalReply` where no server said it. `newAddress`: what a 251
    or 551 to RCPT names (§3.4), whatever became of the message.
    """

    address: str
    reply: Reply
    newAddress: str | None = None

    @property
    def isDelivered(self) -> bool:
        """Whether the server has taken the message for this recipient."""
        return self.reply.code // 100 == 2


@dataclass(frozen=True, slots=True)
class SendResult:
    """What came of a message: a result for each recipient, in the envelope's order."""

    recipients: tuple[RecipientResult, ...]

    @property
    def isDelivered(self) -> bool:
        """Whether the server has taken it for all of them."""
        return all(result.isDelivered for result in self.recipients)


def newAddress(reply: Reply) -> str | None:
    """The address a 251 or 551 names, without brackets; None where there is none (§3.4)."""
    if reply.code not in (251, 551):
        return None
    text = " ".join(reply.lines)[:_LOOKED_AT]
    for match in re.finditer("<", text):
        found = scanPath(text[match.start() :])
        if found is not None and not found[0].isNull:
            return str(found[0])
    return None
