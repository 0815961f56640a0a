"""smtpstore send and sendmail: what is said on the command line, and what is made of it."""

from __future__ import annotations

import io
import os
import re
from email import message_from_bytes

import pytest
from click.testing import CliRunner

from mailsrv.cli import main, send, sendmail
from mailsrv.cli.send import parseServer
from mailsrv.cli.sendmail import statusOf
from mailsrv.client.envelope import RecipientResult, SendResult
from mailsrv.extensions.starttls import TlsPolicy
from mailsrv.remote import Remote
from mailsrv.smtp.reply import reply

TAKEN = reply(250, "2.0.0", "OK")
LETTER = b"Subject: x\nTo: bob@b.example\n\nhello\n"


class Outbox:
    """Takes the place of the network: what was to be sent, and where; `replies` by recipient."""

    def __init__(self) -> None:
        self.replies = {}

    def __call__(self, remote, envelope):
        self.remote = remote
        self.envelope = envelope
        self.octets = b"".join(envelope.source._pieces())
        return SendResult(
            tuple(
                RecipientResult(each, self.replies.get(each, TAKEN)) for each in envelope.recipients
            )
        )

    def run(self, *words: str, input: bytes = LETTER, env=None):
        return CliRunner().invoke(main, words, input=input, env=env)

    def status(self, *words: str, **more) -> int:
        return self.run(*words, **more).exit_code


@pytest.fixture
def outbox(monkeypatch) -> Outbox:
    outbox = Outbox()
    monkeypatch.setattr(send, "sendOver", outbox)
    monkeypatch.setattr(sendmail, "sendOver", outbox)
    monkeypatch.setattr(sendmail, "defaultHostname", lambda: "here.example")
    monkeypatch.setattr(sendmail, "getuser", lambda: "me")
    return outbox


# Where to


@pytest.mark.parametrize(
    ("text", "remote"),
    [
        ("mail.example", Remote("mail.example", 25)),
        ("mail.example:587", Remote("mail.example", 587)),
        ("localhost:2525", Remote("localhost", 2525, tls=None)),
        ("127.0.0.2", Remote("127.0.0.2", 25, tls=None)),
        ("[::1]:26", Remote("::1", 26, tls=None)),
        ("192.0.2.1:25", Remote("192.0.2.1", 25)),
        ("smtp://localhost", Remote("localhost", 25, tls=None)),
        (
            "smtp://me:word@localhost",
            Remote("localhost", 587, ("me", "word"), tls=TlsPolicy.VERIFIED),
        ),
    ],
)
def test_aServerIsAHostAndAPortOrAUrl(text, remote):
    assert parseServer(text) == remote


def base(*words: str) -> list[str]:
    return [
        "send",
        "--server",
        "mail.example",
        "--from",
        "a@a.example",
        "--to",
        "b@b.example",
        *words,
    ]


@pytest.mark.parametrize(
    ("words", "remote"),
    [
        ([], Remote("mail.example", 25)),
        (["--tls", "starttls"], Remote("mail.example", 25, tls=TlsPolicy.VERIFIED)),
        (["--tls", "none"], Remote("mail.example", 25, tls=None)),
        (["--tls", "implicit"], Remote("mail.example", 465, isSecure=True)),
        (
            ["--tls", "implicit", "--server", "mail.example:99"],
            Remote("mail.example", 99, isSecure=True),
        ),
        (["--user", "me"], Remote("mail.example", 25, ("me", "word"), tls=TlsPolicy.VERIFIED)),
    ],
)
def test_tlsIsVerifiedAndRequiredWithALogin(outbox, words, remote):
    assert outbox.status(*base(*words), env={"SMTPSTORE_PASSWORD": "word"}) == 0
    assert outbox.remote == remote


def test_aPasswordOnStdinIsForAMessageInAFile(outbox, tmp_path):
    (tmp_path / "mail.eml").write_bytes(LETTER)
    words = base("--user", "me", "--password-stdin")
    assert outbox.status(*words, str(tmp_path / "mail.eml"), input=b"pass word\n") == 0
    assert outbox.remote.login == ("me", "pass word")
    assert outbox.status(*words, input=b"pass word\n") == 2


@pytest.mark.parametrize(
    "words",
    [
        base("--user", "me"),
        base("--user", "me", "--tls", "none"),
        base("--tls", "maybe"),
        base("--to", "nonsense"),
        base("--to", "<>"),
        base("--server", "http://mail.example"),
        base("--server", "mail.example:x"),
        base("--server", "me:secret@mail.example:x"),
        ["send"],
    ],
)
def test_whatIsWrongOnTheCommandLineIsUsage(outbox, words):
    done = outbox.run(*words, env={"SMTPSTORE_PASSWORD": ""})
    assert done.exit_code == 2
    assert "secret" not in done.output


def test_noNulInALogin(outbox):
    assert (
        outbox.status(*base("--user", "me", "--password-stdin"), "/dev/null", input=b"a\0b\n") == 2
    )


# What


def test_theSenderMayBeNobody(outbox):
    assert outbox.status(*base("--from", "<>")) == 0
    assert outbox.envelope.sender == ""


def test_linesEndInCrlf(outbox):
    outbox.status(*base(), input=b"a\nb\r\nc\n\n")
    assert outbox.octets == b"a\r\nb\r\nc\r\n\r\n"


def test_eachRecipientHasALine(outbox):
    outbox.replies["c@c.example"] = reply(451, "4.3.0", "Later\x1b[0m")
    done = outbox.run(*base("--to", "<c@c.example>"))
    assert done.stdout.splitlines() == [
        "b@b.example: 250 2.0.0 OK",
        "c@c.example: 451 4.3.0 Later\\x1b[0m",
    ]


def test_jsonForPrograms(outbox):
    done = outbox.run(*base("--json"))
    assert '"address": "b@b.example"' in done.stdout
    assert '"code": 250' in done.stdout


@pytest.mark.parametrize(
    ("codes", "status"), [((250, 250), 0), ((250, 550), 1), ((451, 550), 1), ((250, 451), 75)]
)
def test_theExitStatusOfSend(outbox, codes, status):
    for name, code in zip("bc", codes, strict=True):
        outbox.replies[f"{name}@{name}.example"] = reply(code, "", "so")
    assert outbox.status(*base("--to", "c@c.example")) == status


# sendmail


@pytest.mark.parametrize(
    ("words", "sender", "recipients"),
    [
        (["b@b.example"], "me@here.example", ("b@b.example",)),
        (["root"], "me@here.example", ("root@here.example",)),
        (["-f", "a@a.example", "b@b.example"], "a@a.example", ("b@b.example",)),
        (["-fa@a.example", "--", "b@b.example"], "a@a.example", ("b@b.example",)),
        (["-r", "www", "b@b.example"], "www@here.example", ("b@b.example",)),
        (["-f", "<>", "b@b.example"], "", ("b@b.example",)),
        (["-f", "", "b@b.example"], "", ("b@b.example",)),
        (["-t"], "me@here.example", ("bob@b.example",)),
        (["-ti", "-f", "a@a.example"], "a@a.example", ("bob@b.example",)),
        (["-t", "-i", "c@c.example"], "me@here.example", ("c@c.example", "bob@b.example")),
        (["-bm", "b@b.example", "b@b.example"], "me@here.example", ("b@b.example",)),
        (
            ["-oi", "-oem", "-odb", "-B8BITMIME", "-N", "never", "-Rhdrs", "-Vx", "-v", "-G", "b@b.example"],
            "me@here.example",
            ("b@b.example",),
        ),
    ],
)  # fmt: skip
def test_theWordsOfSendmail(outbox, words, sender, recipients):
    assert outbox.status("sendmail", *words) == 0
    assert outbox.envelope.sender == sender
    assert outbox.envelope.recipients == recipients


def test_sendmailAsksTheServerItIsToldTo(outbox):
    outbox.status("sendmail", "b@b.example", env={"SMTPSTORE_SERVER": None})
    assert outbox.remote == Remote("localhost", 25, tls=None)
    env = {"SMTPSTORE_SERVER": "smtp://me:word@mail.example"}
    outbox.status("sendmail", "b@b.example", env=env)
    assert outbox.remote.login == ("me", "word")
    outbox.status("sendmail", "--server", "other.example", "b@b.example", env=env)
    assert outbox.remote == Remote("other.example", 25)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ([], os.EX_USAGE),
        (["-Q"], os.EX_USAGE),
        (["-bs"], os.EX_USAGE),
        (["-f"], os.EX_USAGE),
        (["not an address"], os.EX_USAGE),
        (["<>"], os.EX_USAGE),
        (["-f", "not an address", "b@b.example"], os.EX_USAGE),
        (["--server", "nonsense:x", "b@b.example"], os.EX_USAGE),
    ],
)
def test_wrongUsageOfSendmail(outbox, words, status):
    done = outbox.run("sendmail", *words)
    assert done.exit_code == status
    assert done.stderr.startswith("smtpstore: ")


def test_wrongAddressesInTheMessageAreItsData(outbox):
    assert outbox.status("sendmail", "-t", input=b"To: bad address@@x\n\nhi\n") == os.EX_DATAERR


def test_helpIsHelp(outbox):
    done = outbox.run("sendmail", "--help")
    assert done.exit_code == 0
    assert "-t " in done.stdout


def sent(outbox: Outbox, octets: bytes, *words: str) -> bytes:
    assert outbox.status("sendmail", *words, input=octets) == 0
    return outbox.envelope.content


def test_recipientsOfAMessageAreItsToCcAndBccAndNobodySeesBcc(outbox):
    octets = (
        b"From: me@a.example\nTo: \"Bob, B.\" <bob@b.example>,\n\tcarol@c.example\n"
        b"cc:dan@d.example\nBCC: eve@e.example\n\thidden@e.example,\n frank\nSubject: x\n\nBcc: body\n"
    ).replace(b"eve@e.example\n\thidden", b"eve@e.example,\n\thidden")  # fmt: skip
    content = sent(outbox, octets, "-t")
    assert outbox.envelope.recipients == (
        "bob@b.example",
        "carol@c.example",
        "dan@d.example",
        "eve@e.example",
        "hidden@e.example",
        "frank@here.example",
    )
    assert b"eve" not in content
    assert b"hidden" not in content
    assert content.endswith(b"\r\n\r\nBcc: body\r\n")
    assert b'To: "Bob, B." <bob@b.example>,\r\n\tcarol@c.example\r\n' in content


def test_withoutTTheMessageIsLeftAsItIs(outbox):
    content = sent(outbox, b"Bcc: eve@e.example\n\nx\n", "b@b.example")
    assert content.startswith(b"Bcc: eve@e.example\r\n")
    assert outbox.envelope.recipients == ("b@b.example",)


def test_whatIsMissingIsAdded(outbox):
    message = message_from_bytes(sent(outbox, b"hello\n", "-F", "Me\nBcc: x", "b@b.example"))
    assert message["From"] == '"Me Bcc: x" <me@here.example>'
    assert message["Date"]
    assert re.fullmatch(r"<\S+@here\.example>", message["Message-ID"])
    assert message.get_payload() == "hello\r\n"


def test_whatIsThereStays(outbox):
    octets = b"FROM: x@x.example\nDate: now\nMessage-Id: <1@x>\n\nhello"
    assert sent(outbox, octets, "b@b.example") == octets.replace(b"\n", b"\r\n") + b"\r\n"


def test_reportsHaveASender(outbox):
    assert b"From: <MAILER-DAEMON@here.example>\r\n" in sent(
        outbox, LETTER, "-f", "<>", "b@b.example"
    )


def test_aSenderOutsideAsciiIsShownAsItIs(outbox):
    content = sent(outbox, LETTER, "-f", "jörg@a.example", "b@b.example")
    assert "From: jörg@a.example\r\n".encode() in content


def test_aLineOfMboxInFrontIsLeftOut(outbox):
    content = sent(outbox, b"From me Sat Jan 31\n" + LETTER, "b@b.example")
    assert content.startswith(b"Subject: x\r\n")


@pytest.mark.parametrize(
    ("words", "end"),
    [([], b"one\r\n"), (["-i"], b"one\r\n.\r\ntwo\r\n"), (["-oi"], b"one\r\n.\r\ntwo\r\n")],
)
def test_aLoneDotEndsTheMessageUnlessItIsToldNotTo(outbox, words, end):
    assert sent(outbox, b"Subject: x\n\none\n.\ntwo\n", *words, "b@b.example").endswith(
        b"\r\n\r\n" + end
    )


@pytest.mark.parametrize(
    ("code", "enhanced", "status"),
    [
        (250, "2.0.0", os.EX_OK),
        (451, "4.3.0", os.EX_TEMPFAIL),
        (421, "", os.EX_TEMPFAIL),
        (550, "5.1.1", os.EX_NOUSER),
        (553, "5.1.3", os.EX_NOUSER),
        (551, "5.1.6", os.EX_NOUSER),
        (550, "5.7.1", os.EX_NOPERM),
        (530, "5.7.0", os.EX_NOPERM),
        (535, "", os.EX_NOPERM),
        (552, "5.3.4", os.EX_DATAERR),
        (550, "5.6.11", os.EX_DATAERR),
        (550, "", os.EX_UNAVAILABLE),
        (554, "5.0.0", os.EX_UNAVAILABLE),
    ],
)
def test_repliesAsExitStatus(code, enhanced, status):
    assert statusOf(reply(code, enhanced, "text")) == status


@pytest.mark.parametrize(
    ("codes", "status"),
    [((250, 451), os.EX_TEMPFAIL), ((451, 550), os.EX_UNAVAILABLE), ((250, 250), os.EX_OK)],
)
def test_theExitStatusOfSendmail(outbox, codes, status):
    for name, code in zip("bc", codes, strict=True):
        outbox.replies[f"{name}@{name}.example"] = reply(code, "", "so")
    done = outbox.run("sendmail", "b@b.example", "c@c.example")
    assert done.exit_code == status
    assert len(done.stderr.splitlines()) == sum(code != 250 for code in codes)
    assert done.stdout == ""


def test_stdinIsReadAsOctets():
    assert sendmail.readMessage(io.BytesIO(b"\x80\xff"), False) == b"\x80\xff\r\n"
