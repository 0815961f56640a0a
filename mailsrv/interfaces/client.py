"""The sending side: what client extensions see, and what gives the octets of a message."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import Attribute, Interface

from mailsrv.interfaces.answer import MaybeDeferredAnswer
from mailsrv.smtp.command import Command, Parameters
from mailsrv.smtp.reply import Reply

if TYPE_CHECKING:
    from twisted.internet.interfaces import IOpenSSLClientConnectionCreator


class UnexpectedReply(Exception):
    """A command was answered with a code that was not expected; `reply` is the answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"{reply.code} {reply.enhanced} {reply.text}")
        self.reply = reply


class CommandSentException(Exception):
    """An extension has sent the command itself; `reply` is the Deferred of its Reply."""

    def __init__(self, reply: Deferred[Reply]) -> None:
        super().__init__("the command has been sent")
        self.reply = reply


class IContentProducer(Interface):
    """Gives the octets of a message, of the shape of twisted.web's IBodyProducer."""

    length = Attribute("int: octets in all; anything else: not known.")

    def startProducing(consumer: IConsumer) -> Deferred[None]:
        """Write to `consumer` from now on; fires after the last octet, never once stopped."""

    def pauseProducing() -> None:
        """Write no more until told so."""

    def resumeProducing() -> None:
        """Go on."""

    def stopProducing() -> None:
        """Write no more at all."""


class IClientTransaction(Interface):
    """A mail transaction a client is about to begin, as its extensions see it."""

    sender = Attribute("str: local-part@domain, '' for <>.")
    recipients = Attribute("tuple of str: likewise.")
    parameters = Attribute("Parameters of MAIL the sender asked for.")
    recipientParameters = Attribute("Mapping of a recipient to the Parameters of RCPT, likewise.")
    size = Attribute("int or None: octets of content, where known.")
    traits = Attribute("mailsrv.smtp.survey.Traits of the content, or None: not known.")
    usesChunks = Attribute("bool: whether the content will go by BDAT.")


class IOctetBuffer(Interface):
    """The octets of a client's connection, in both directions (`getBuffer()` of the writer)."""

    def write(octets: bytes) -> None:
        """Send octets as they are."""

    def startTLS(
        connectionCreator: IOpenSSLClientConnectionCreator, isVerified: bool
    ) -> Deferred[None]:
        """Turn the connection to TLS; fires after the handshake.

        `isVerified`: whether the creator verifies the host's certificate. Fails with
        UnexpectedReply where the handshake fails, and where octets in clear are left over, which
        ends the connection. All that was learnt before is forgotten, EHLO is said again."""


class IEsmtpCommandWriter(Interface):
    """What client extensions write commands with."""

    hostname = Attribute("str: the server's name, which its certificate must be for.")
    isSecure = Attribute("bool: whether TLS is on.")
    isVerified = Attribute("bool: whether, too, the certificate is the host's.")

    def getBuffer() -> IOctetBuffer:
        """The octets in both directions."""

    def executeCommand(command: Command, expectedCodes: Collection[int] = ()) -> Deferred[Reply]:
        """Send a command and wait for its reply; fails with UnexpectedReply where its code is
        not among `expectedCodes` (none given: any will do).

        A connection that ends answers too: with the server's 421, or with a LocalReply 451.
        Cancelling ends the connection. ValueError where the command is more than one line."""


class IClientExtension(Interface):
    """The client half of an ESMTP extension; one object serves all connections, without state.

    It is asked whether or not the server offers its keyword: `params` are the keyword's
    parameters ('' for none), None where it is not offered. Parameters it then adds all the same
    are left out.
    """

    def getKeyword() -> str:
        """The EHLO keyword it serves."""

    def afterEhlo(writer: IEsmtpCommandWriter, params: str | None) -> MaybeDeferredAnswer:
        """A turn after EHLO (or HELO). None, or the Reply that makes this connection useless.

        After an extension has turned TLS on, EHLO is said again and all are asked anew."""

    def getMailParams(transaction: IClientTransaction, params: str | None) -> Parameters | Reply:
        """The parameters to add to MAIL, or the Reply that refuses the message: nothing of it
        is sent then. Of two extensions that add the same parameter the later one wins."""

    def getRcptParams(
        transaction: IClientTransaction, forwardPath: str, params: str | None
    ) -> Parameters | Reply:
        """The parameters to add to RCPT, or the Reply that refuses this recipient, likewise."""

    def atCommand(
        writer: IEsmtpCommandWriter, command: Command, expectedCodes: Collection[int]
    ) -> None:
        """A turn at each command before it is sent, where the keyword is offered.

        It may send the command itself, with what it likes before it, and raise
        CommandSentException, which carries the Deferred of the reply. What it says to `writer`
        is not shown to extensions again."""
