"""Replies that no server has said: what a client answers itself where there is none to hear."""

from __future__ import annotations

from mailsrv.smtp.reply import Reply


class LocalReply(Reply):
    """A Reply made on our side, in place of one from the server; compares equal to none of its."""

    __slots__ = ()


def local(code: int, enhanced: str, text: str) -> LocalReply:
    """Make a LocalReply of one line."""
    return LocalReply(code, enhanced, (text,))


# The connection. A connection dropped without a 421 counts as a 451.
CANNOT_CONNECT = local(451, "4.4.1", "No answer from the host")
NOT_CONNECTED = local(451, "4.4.2", "Not connected")
DROPPED = local(451, "4.4.2", "The connection was dropped without a 421")
NO_REPLY_IN_TIME = local(451, "4.4.2", "Timed out waiting for the server")
ABORTED = local(451, "4.4.2", "The connection was given up on our side")

# The server does not speak SMTP as it should.
MALFORMED_REPLY = local(451, "4.5.0", "The server sent what is not a reply")
UNASKED_REPLY = local(451, "4.5.0", "The server sent a reply that nobody had asked for")
INJECTED_REPLY = local(451, "4.7.0", "Octets in clear behind the reply to STARTTLS")

# TLS and credentials
TLS_NOT_OFFERED = local(451, "4.7.4", "TLS is required, and the server does not offer it")
TLS_REFUSED = local(451, "4.7.4", "TLS is required, and the server refused it")
TLS_FAILED = local(451, "4.7.5", "The TLS handshake failed, or the certificate is not the host's")
TLS_FOR_CREDENTIALS = local(451, "4.7.4", "Credentials are given only in verified TLS")
AUTH_NOT_OFFERED = local(451, "4.7.4", "The server offers no way to log in that we know")

# The message
BAD_SENDER = local(553, "5.1.7", "The sender is not an address")
BAD_RECIPIENT = local(553, "5.1.3", "The recipient is not an address")
UTF8_NOT_OFFERED = local(553, "5.6.7", "The address needs SMTPUTF8, which the server lacks")
EIGHT_BIT_NOT_OFFERED = local(550, "5.6.3", "8-bit content, and the server lacks 8BITMIME")
OVER_ITS_LIMIT = local(552, "5.3.4", "The message is larger than the server takes")
HAS_BARE_NEWLINE = local(550, "5.6.11", "A bare CR or LF cannot be sent without BINARYMIME")
UNREADABLE = local(451, "4.3.0", "The content could not be read to its end")


def outOfPlace(said: Reply) -> LocalReply:
    """For a success that cannot be one, such as 354 to MAIL."""
    return local(451, "4.5.0", f"The server answered {said.code} where that means nothing")
