"""For the tests of programs that send mail, or that embed or extend the server.

A program under test that is not Twisted: with pytest the fixture `smtpserver` is there as soon as
smtpstore is installed; elsewhere `ServerProcess` is a context manager, and blocks::

    def test_a_new_user_is_welcomed(smtpserver):
        register("bob@example.com", host=smtpserver.host, port=smtpserver.port)
        [message] = smtpserver.waitFor(to="bob@example.com")
        assert message.summary.subject == "Welcome"

One that is Twisted: `MailServer` runs in the test's own reactor, in trial and in pytest-twisted::

    class WelcomeTests(twisted.trial.unittest.TestCase):
        async def test_a_new_user_is_welcomed(self):
            server = await MailServer(reactor).start()
            self.addCleanup(server.stop)
            await register("bob@example.com", port=server.port)
            [message] = await server.waitFor(to="bob@example.com")

Both listen on a free port of 127.0.0.1, keep mail in a SQLite file of their own (`server.db` is its
URL), and take mail for everybody, or with `users=["bob@example.com"]` for these alone. What comes
back are values of `mailsrv.smtp.message.Message`, as they were committed.

Both have TLS and logins where they are asked for, the packages of ``smtpstore[tls]`` given::

    def test_mail_goes_out_in_tls_and_logged_in():
        with ServerProcess(tls=True, logins={"bob": "secret"}, requireLogin=True) as server:
            context = ssl.create_default_context(cafile=server.certificate)
            with smtplib.SMTP("localhost", server.port) as client:  # or SMTP_SSL, server.tlsPort
                client.starttls(context=context)
                client.login("bob", "secret")
                client.sendmail("bob@example.com", "ann@example.com", "Subject: Hello\r\n\r\n")
            [message] = server.waitFor(to="ann@example.com")
            assert message.protocol == "ESMTPSA"

Faults are asked for by address, and happen to nobody else:

============================  ====================================================================
``550@rcpt.fault.test``       that recipient is answered 550 (any code from 400 to 599)
``451@data.fault.test``       a message to it is answered 451 after its end, and not stored
``421@mail.fault.test``       as the *sender*: MAIL is answered 421, and the connection closed
``421@connect.fault.test``    after this recipient, the next connection is answered 421
``slow-2s@data.fault.test``   the answer takes 2 seconds (or slow-200ms), at each of these commands
``drop@rcpt.fault.test``      the connection is lost in place of an answer, likewise
``drop@stored.fault.test``    the message is committed, and the connection lost before the 250
============================  ====================================================================

For who embeds or extends the server: `HeldStore`, whose COMMIT happens when the test says;
`StoreContract`, what every store must do; `makeMessage`, `readMessage`.
"""

from __future__ import annotations

from mailsrv.testing.contract import MIB, STRANGE_TEXTS, Store, StoreContract
from mailsrv.testing.faults import Faults
from mailsrv.testing.held import HeldStore
from mailsrv.testing.inbox import Inbox
from mailsrv.testing.messages import (
    BrokenContent,
    CountingContent,
    GatedContent,
    makeMessage,
    readMessage,
    readMessageTxn,
)
from mailsrv.testing.process import ServerProcess
from mailsrv.testing.server import MailServer

__all__ = [
    "MIB",
    "STRANGE_TEXTS",
    "BrokenContent",
    "CountingContent",
    "Faults",
    "GatedContent",
    "HeldStore",
    "Inbox",
    "MailServer",
    "ServerProcess",
    "Store",
    "StoreContract",
    "makeMessage",
    "readMessage",
    "readMessageTxn",
]
