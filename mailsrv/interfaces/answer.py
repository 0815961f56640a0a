"""What a method that may refuse gives back."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from mailsrv.smtp.reply import Reply

Answer = Reply | None
# Any, since Deferred is invariant: what fires is a Reply, respectively an Answer.
MaybeDeferredReply = Reply | Deferred[Any]
MaybeDeferredAnswer = Answer | Deferred[Any]
