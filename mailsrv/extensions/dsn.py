"""DSN: delivery status notifications asked for by the sender (RFC 3461)."""

from __future__ import annotations

from mailsrv.extensions.extension import ClientExtension, ServerExtension
from mailsrv.interfaces import IClientTransaction, ITransaction, MaybeDeferredAnswer
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox
from mailsrv.smtp.command import Parameters
from mailsrv.smtp.xtext import isXtext

_MAX_ENVID = 100  # characters, §5.4
_MAX_ORCPT = 500  # characters, §5.4
_EVENTS = frozenset({"SUCCESS", "FAILURE", "DELAY"})


def _isRet(value: str) -> bool:
    return value.upper() in ("FULL", "HDRS")


def _isEnvid(value: str) -> bool:
    return 0 < len(value) <= _MAX_ENVID and isXtext(value)


def _isNotify(value: str) -> bool:
    """NEVER alone, or some of SUCCESS, FAILURE and DELAY, each once (§4.1)."""
    words = value.upper().split(",")
    return words == ["NEVER"] or (_EVENTS.issuperset(words) and len(set(words)) == len(words))


def _isOrcpt(value: str) -> bool:
    """An address type, and an address as xtext; UTF-8 as it is (§4.2, RFC 6533)."""
    kind, semicolon, address = value.partition(";")
    isKind = kind.isascii() and kind.replace("-", "").isalnum()
    isAddress = bool(address) and (isXtext(address) or not address.isascii())
    return isKind and bool(semicolon) and isAddress and len(value) <= _MAX_ORCPT


_GRAMMAR = {"RET": _isRet, "ENVID": _isEnvid, "NOTIFY": _isNotify, "ORCPT": _isOrcpt}


class DsnServer(ServerExtension):
    """Checks RET, ENVID, NOTIFY and ORCPT; they are stored as given, for who sends reports."""

    keyword = "DSN"
    mailParams = frozenset({"RET", "ENVID"})
    rcptParams = frozenset({"NOTIFY", "ORCPT"})

    def atMail(self, transaction: ITransaction, params: Parameters) -> MaybeDeferredAnswer:
        return _refusal(params)

    def atRcpt(
        self, transaction: ITransaction, forwardPath: Mailbox, params: Parameters
    ) -> MaybeDeferredAnswer:
        return _refusal(params)


def _refusal(params: Parameters) -> r.Reply | None:
    isRight = all(value is not None and _GRAMMAR[name](value) for name, value in params.items())
    return None if isRight else r.BAD_PARAMETER


class DsnClient(ClientExtension):
    """Passes on what the sender asked for: RET and ENVID, NOTIFY and ORCPT.

    Where DSN is not offered they are left out; what that means is the relay's question (§5.2.2).
    """

    keyword = "DSN"

    def getMailParams(self, transaction: IClientTransaction, params: str | None) -> Parameters:
        return _taken(DsnServer.mailParams, transaction.parameters)

    def getRcptParams(
        self, transaction: IClientTransaction, forwardPath: str, params: str | None
    ) -> Parameters:
        return _taken(DsnServer.rcptParams, transaction.recipientParameters.get(forwardPath, {}))


def _taken(names: frozenset[str], parameters: Parameters) -> Parameters:
    return {name: value for name, value in parameters.items() if name.upper() in names}
