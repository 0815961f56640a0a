"""What HELP says (RFC 5321 §4.1.1.8)."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from mailsrv.smtp.reply import Reply, reply

NOT_IMPLEMENTED = frozenset({"SEND", "SOML", "SAML", "TURN"})

_TEXTS: Mapping[str, str] = {
    "HELO": "HELO domain: begin a session",
    "EHLO": "EHLO domain: begin a session, and list the extensions offered",
    "LHLO": "LHLO domain: begin a session, and list the extensions offered",
    "MAIL": "MAIL FROM:<reverse-path> [parameters]: begin a mail transaction",
    "RCPT": "RCPT TO:<forward-path> [parameters]: name one recipient",
    "DATA": "DATA: send the message, ended by a line that holds a dot alone",
    "BDAT": "BDAT octets [LAST]: send a chunk of the message",
    "RSET": "RSET: forget the mail transaction",
    "NOOP": "NOOP: do nothing, and keep the session open",
    "QUIT": "QUIT: end the session",
    "VRFY": "VRFY string: ask whether a user exists",
    "EXPN": "EXPN string: ask for the members of a mailing group",
    "HELP": "HELP [command]: about a command, or the list of all commands",
    "STARTTLS": "STARTTLS: turn the connection to TLS",
    "AUTH": "AUTH mechanism [initial-response]: log in",
    **{verb: f"{verb}: not implemented" for verb in NOT_IMPLEMENTED},
}


def helpReply(verb: str, verbs: Collection[str]) -> Reply:
    """214 about `verb`, or the list of all `verbs` where it is none of them."""
    if verb in verbs:
        text = _TEXTS.get(verb, f"{verb}: a command of an extension")
        return reply(214, "2.0.0", text)
    return reply(214, "2.0.0", "Commands:", " ".join(sorted(verbs)), "HELP command tells more")
