"""8BITMIME and BINARYMIME: what the content is made of (RFC 6152, RFC 3030)."""

from __future__ import annotations

from mailsrv.extensions.extension import ClientExtension, ServerExtension
from mailsrv.interfaces import IClientTransaction, ITransaction, MaybeDeferredAnswer
from mailsrv.smtp import local
from mailsrv.smtp import reply as r
from mailsrv.smtp.command import Parameters
from mailsrv.smtp.reply import Reply


class BodyServer(ServerExtension):
    """Checks BODY; the octets themselves are stored as they come, whatever was said."""

    keyword = "8BITMIME"
    mailParams = frozenset({"BODY"})

    def atMail(self, transaction: ITransaction, params: Parameters) -> MaybeDeferredAnswer:
        value = (params["BODY"] or "").upper()
        if value not in ("7BIT", "8BITMIME", "BINARYMIME"):
            return r.BAD_PARAMETER
        # Octets that are no lines cannot end with a dot (RFC 3030 §3).
        transaction.needsChunks = value == "BINARYMIME"
        return None


class BodyClient(ClientExtension):
    """Says BODY=8BITMIME of content with octets over 127, or that cannot be looked at first.

    A server without 8BITMIME gets it as it is, which works nearly everywhere; RFC 6152 §3 would
    have it converted or returned. `isStrict`: it is refused here, 550 5.6.3.
    """

    keyword = "8BITMIME"

    def __init__(self, isStrict: bool = False) -> None:
        self._isStrict = isStrict

    def getMailParams(
        self, transaction: IClientTransaction, params: str | None
    ) -> Parameters | Reply:
        traits = transaction.traits
        if traits is not None and not traits.is8bit:
            return {}
        if params is None and traits is not None and self._isStrict:
            return local.EIGHT_BIT_NOT_OFFERED
        return {"BODY": "8BITMIME"}
