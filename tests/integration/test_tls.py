"""TLS on real sockets: what is accepted, what is not, and what of the clear text is left behind."""

from __future__ import annotations

import smtplib
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from integration.realserver import LIMIT, Server, StartServer, environment

SMTPS = ("--smtps", "tcp:0:interface=127.0.0.1")
AUTO = ("--tls", "auto", *SMTPS)
TEXT = b"Subject: Hello\r\n\r\nA line.\r\n"


def trusting(**more: object) -> ssl.SSLContext:
    """A client's context that looks at no certificate, and would do any old protocol."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    context.set_ciphers("ALL:@SECLEVEL=0")
    for name, value in more.items():
        setattr(context, name, value)
    return context


def plainly(server: Server) -> socket.socket:
    """A connection that has said EHLO and STARTTLS, and was told to go on."""
    connection = server.connect()
    file = connection.makefile("rb")
    assert file.readline().startswith(b"220 ")
    connection.sendall(b"EHLO c\r\n")
    while not file.readline().startswith(b"250 "):
        pass
    return connection


def saysNothingMore(connection: socket.socket) -> bool:
    """Whether the server closes without a word in clear (an alert of TLS is none)."""
    connection.settimeout(LIMIT)
    try:
        heard = connection.recv(4096)
    except ConnectionResetError:
        return True
    return heard == b"" or heard[0] == 21


def test_mail_goes_through_both_kinds_of_tls(startServer: StartServer) -> None:
    server = startServer(*AUTO)
    server.waitFor("made by --tls auto: for trying out")
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.ehlo()
        assert client.has_extn("starttls")
        assert not client.has_extn("auth")
        client.starttls(context=trusting())
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.esmtp_features["auth"].split() == ["PLAIN", "LOGIN"]
        client.sendmail("a@example.com", "b@example.org", TEXT)
    port = server.portOf("SMTPS")
    with smtplib.SMTP_SSL("127.0.0.1", port, context=trusting(), timeout=LIMIT) as client:
        client.ehlo()
        assert not client.has_extn("starttls")
        assert client.docmd("STARTTLS")[0] == 503
        client.sendmail("a@example.com", "b@example.org", TEXT)
    assert server.rows("SELECT protocol, data FROM messages") == [("ESMTPS", TEXT)] * 2


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1:DeprecationWarning")
def test_old_versions_are_refused(startServer: StartServer) -> None:
    port = startServer(*AUTO).portOf("SMTPS")
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        context = trusting(maximum_version=version)
        with pytest.raises(ssl.SSLError, match="alert protocol version"):  # so it was the server
            smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=LIMIT)


def test_only_forward_secret_authenticated_suites_are_spoken(startServer: StartServer) -> None:
    port = startServer(*AUTO).portOf("SMTPS")
    spoken = set()
    for suite in trusting().get_ciphers():
        if suite["protocol"] == "TLSv1.3":
            continue
        context = trusting(maximum_version=ssl.TLSVersion.TLSv1_2)
        context.set_ciphers(f"{suite['name']}:@SECLEVEL=0")
        try:
            client = smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=LIMIT)
        except (ssl.SSLError, ConnectionResetError):
            continue
        spoken.add(suite["name"])
        client.close()
    assert spoken
    assert all(name.startswith("ECDHE-") for name in spoken)
    assert all("GCM" in name or "CHACHA20" in name for name in spoken)


def test_both_versions_of_today_are_spoken(startServer: StartServer) -> None:
    port = startServer(*AUTO).portOf("SMTPS")
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = trusting(minimum_version=version, maximum_version=version)
        with smtplib.SMTP_SSL("127.0.0.1", port, context=context, timeout=LIMIT) as client:
            assert client.noop()[0] == 250


def test_a_connection_that_must_be_secure_takes_mail_only_in_tls(startServer: StartServer) -> None:
    server = startServer("--tls", "auto", "--require-tls")
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.ehlo()
        assert client.mail("a@example.com")[0] == 530
        client.starttls(context=trusting())
        client.sendmail("a@example.com", "b@example.org", TEXT)


def test_what_stands_in_clear_behind_starttls_is_never_executed(startServer: StartServer) -> None:
    """RFC 3207 §6; in the same segment it is thrown away, and TLS begins with what follows."""
    server = startServer(*AUTO)
    for behind in (b"RSET\r\n", b"EHLO evil\r\nMAIL FROM:<evil@example.com>\r\n", b"x" * 5000):
        inject(server, behind)


def inject(server: Server, behind: bytes) -> None:
    connection = plainly(server)
    connection.sendall(b"STARTTLS\r\n" + behind)
    assert connection.recv(4096).startswith(b"220 2.0.0 ")
    with trusting().wrap_socket(connection) as secure:
        secure.sendall(b"NOOP\r\nMAIL FROM:<a@example.com>\r\nEHLO c\r\nAUTH\r\n")
        said = b""
        while b"501 " not in said:
            said += secure.recv(4096)
    lines = said.split(b"\r\n")
    assert lines[0].startswith(b"250 2.0.0"), "NOOP"
    assert lines[1].startswith(b"503 "), "what was said before TLS is forgotten"
    assert lines[2].endswith(b" greets c")


GARBAGE = (
    b"MAIL FROM:<evil@example.com>\r\nQUIT\r\n",
    b"\x16\x03\x01\xff\xff" + b"\0" * 70_000,
    b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03",
    b"\x80\x2e\x01\x00\x02" + b"\x01" * 50,
    b"\0",
    b"GET / HTTP/1.1\r\n\r\n",
)


@pytest.mark.parametrize("kind", ["SMTP", "SMTPS"])
def test_what_is_no_tls_is_no_traceback(startServer: StartServer, kind: str) -> None:
    """startServer looks through the log."""
    server = startServer(*AUTO)
    for garbage in GARBAGE:
        if kind == "SMTP":
            connection = plainly(server)
            connection.sendall(b"STARTTLS\r\n")
            assert connection.recv(4096).startswith(b"220 ")
        else:
            connection = socket.create_connection(("127.0.0.1", server.portOf(kind)), LIMIT)
        with connection:
            connection.sendall(garbage)
            connection.shutdown(socket.SHUT_WR)
            assert saysNothingMore(connection)
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        assert client.noop()[0] == 250


def test_who_hangs_up_in_the_handshake_is_no_traceback(startServer: StartServer) -> None:
    server = startServer(*AUTO)
    context = trusting()
    for _ in range(5):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = context.wrap_bio(incoming, outgoing)
        with pytest.raises(ssl.SSLWantReadError):
            client.do_handshake()
        connection = socket.create_connection(("127.0.0.1", server.portOf("SMTPS")), LIMIT)
        connection.sendall(outgoing.read())
        assert connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        connection.close()  # by a reset


def test_starttls_ends_a_transaction(startServer: StartServer) -> None:
    server = startServer(*AUTO)
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client.ehlo()
        client.mail("a@example.com")
        client.rcpt("b@example.org")
        client.starttls(context=trusting())
        assert client.docmd("DATA")[0] == 503
        client.ehlo()
        assert client.docmd("DATA")[0] == 503


def test_a_large_message_comes_whole_through_tls(startServer: StartServer) -> None:
    server = startServer(*AUTO)
    body = b"Subject: Large\r\n\r\n" + (b"." * 70 + b"\r\n") * 70_000
    port = server.portOf("SMTPS")
    with smtplib.SMTP_SSL("127.0.0.1", port, context=trusting(), timeout=LIMIT) as client:
        client.sendmail("a@example.com", "b@example.org", body)
    [(size, head)] = server.rows("SELECT size, data FROM messages")
    parts = server.rows("SELECT data FROM message_parts ORDER BY seq")
    assert size == len(body)
    assert head + b"".join(part for (part,) in parts) == body


# Certificates


def openssl(directory: Path, name: str) -> tuple[Path, Path]:
    """A self-signed pair for `name`, made by openssl as a person would."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-nodes", "-days", "2", "-subj", f"/CN={name}"),
            *("-addext", f"subjectAltName=DNS:{name}", "-keyout", str(key)),
            *("-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
        timeout=LIMIT,
    )
    return certificate, key


def shown(port: int) -> str:
    """The certificate that the server shows now, PEM."""
    with (
        socket.create_connection(("127.0.0.1", port), LIMIT) as connection,
        trusting().wrap_socket(connection) as secure,
    ):
        der = secure.getpeercert(binary_form=True)
    assert der is not None
    return ssl.DER_cert_to_PEM_cert(der)


def test_a_changed_certificate_is_shown_without_a_restart_and_old_sessions_go_on(
    startServer: StartServer, tmp_path: Path
) -> None:
    certificate, key = openssl(tmp_path, "old.example")
    server = startServer("--tls-cert", str(certificate), "--tls-key", str(key), *SMTPS)
    port = server.portOf("SMTPS")
    old = shown(port)
    assert old == certificate.read_text()
    with smtplib.SMTP_SSL("127.0.0.1", port, context=trusting(), timeout=LIMIT) as client:
        client.ehlo()
        client.mail("a@example.com")
        client.rcpt("b@example.org")
        newCertificate, newKey = openssl(tmp_path, "new.example")
        newCertificate.replace(certificate)  # now it does not fit the key, for a moment
        assert shown(port) == old
        server.waitFor("cannot be used, the old one goes on")
        newKey.replace(key)
        assert shown(port) == certificate.read_text() != old
        server.waitFor("took up the changed certificate")
        assert client.data(TEXT)[0] == 250
        client.sendmail("a@example.com", "b@example.org", TEXT)
    key.unlink()
    assert shown(port) == certificate.read_text()
    assert len(server.rows("SELECT id FROM messages")) == 2


def test_a_client_that_verifies_is_content_with_its_own_ca(
    startServer: StartServer, tmp_path: Path
) -> None:
    certificate, key = openssl(tmp_path, "localhost")
    server = startServer("--tls-cert", str(certificate), "--tls-key", str(key))
    context = ssl.create_default_context(cafile=str(certificate))
    with smtplib.SMTP("127.0.0.1", server.port, timeout=LIMIT) as client:
        client._host = "localhost"
        client.starttls(context=context)
        assert client.noop()[0] == 250


# Without the libraries


@pytest.mark.parametrize("missing", ["OpenSSL", "cryptography"])
def test_without_its_libraries_everything_but_tls_works(tmp_path: Path, missing: str) -> None:
    script = f"""
import sys
sys.modules[{missing!r}] = None
import pkgutil, mailsrv.server, mailsrv.extensions, mailsrv.policies
from importlib import import_module
ofTls = ("certificate", "selfsigned", "validity")
for room in (mailsrv.server, mailsrv.extensions, mailsrv.policies):
    for module in pkgutil.iter_modules(room.__path__, room.__name__ + "."):
        if module.name.rpartition(".")[2] not in ofTls:
            import_module(module.name)
from twisted.internet import reactor
from mailsrv.service import MailService, StartError
from mailsrv.settings import readSettings
plain = {{"port": ["0"], "db": ["sqlite:mail.db"]}}
MailService(readSettings(plain, {{}})[0], reactor)
try:
    MailService(readSettings({{**plain, "tls": ["auto"]}}, {{}})[0], reactor)
except StartError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert done.stdout == "TLS needs pyOpenSSL: pip install 'smtpstore[tls]'\n", done.stderr


def test_a_stop_does_not_wait_for_a_handshake_that_does_not_come(startServer: StartServer) -> None:
    server = startServer(*AUTO)
    with server.connect() as plain:
        assert plain.recv(4096).startswith(b"220 ")  # it runs, and can be stopped
    with socket.create_connection(("127.0.0.1", server.portOf("SMTPS")), LIMIT):
        began = time.monotonic()
        server.process.terminate()
        server.waitFor("Stopped")
        assert time.monotonic() - began < 7
