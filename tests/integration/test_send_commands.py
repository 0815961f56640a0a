"""smtpstore send and sendmail, against a real server."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from integration.fakehost import FakeHost
from integration.realserver import LIMIT, Server, StartServer, environment
from mailsrv.server.selfsigned import selfSigned

SEND = [sys.executable, "-c", "from mailsrv.cli import main; main()", "send"]
SENDMAIL = [*SEND[:-1], "sendmail"]
LETTER = b"From: me@example.org\nTo: bob@example.com\nBcc: eve@example.com\nSubject: Hi\n\n.dot\n"


def run(*words: str, input: bytes = LETTER, **env: str) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        words, input=input, env=environment(**env), capture_output=True, timeout=LIMIT
    )
    assert b"Traceback" not in done.stderr
    return done


def stored(server: Server) -> list[bytes]:
    return [data for (data,) in server.rows("SELECT data FROM messages ORDER BY id")]


def test_send_and_sendmail_deliver_octets(startServer: StartServer) -> None:
    server = startServer()
    done = run(*SEND, "--server", server.address, "--from", "a@a.example", "--to", "b@b.example")
    assert done.returncode == 0
    assert done.stdout.startswith(b"b@b.example: 250 2.0.0 OK id=")
    done = run(*SENDMAIL, "-t", "-i", "-f", "a@a.example", SMTPSTORE_SERVER=server.address)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    first, second = stored(server)
    assert first == LETTER.replace(b"\n", b"\r\n")
    assert second.endswith(b"\r\n\r\n.dot\r\n")
    assert b"Bcc" not in second
    assert server.rows("SELECT address FROM recipients ORDER BY message_id, address") == [
        ("b@b.example",),
        ("bob@example.com",),
        ("eve@example.com",),
    ]


PEAK = """
import atexit, re
peak = lambda: re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]
atexit.register(lambda: print("peak:", peak()))
from mailsrv.cli import main; main()
"""


@pytest.mark.parametrize("isPiped", [False, True], ids=["file", "pipe"])
def test_a_large_message_is_not_held_in_memory(
    startServer: StartServer, tmp_path: Path, isPiped: bool
) -> None:
    server = startServer()
    file = tmp_path / "large.eml"
    peaks = []
    for lines in (1, 250_000):
        file.write_bytes(b"Subject: Large\n\n" + (b"0123456789" * 7 + b"\n") * lines)
        words = ["--server", server.address, "--from", "a@a.example", "--to", "b@b.example"]
        done = run(
            sys.executable, "-c", PEAK, "send", *words, *([] if isPiped else [str(file)]),
            input=file.read_bytes() if isPiped else b"",
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        peaks.append(int(done.stdout.partition(b"peak:")[2]))
    assert peaks[1] - peaks[0] < 8_192  # KiB, of a message of 17 MiB
    [(size,)] = server.rows("SELECT max(size) FROM messages")
    assert size == len(file.read_bytes()) + 250_002


def test_what_the_server_says_is_the_exit_status(startServer: StartServer) -> None:
    server = startServer("--domain", "example.com")
    words = ["--server", server.address, "--from", "a@a.example", "--to", "no@example.com"]
    done = run(*SEND, *words)
    assert done.returncode == 1
    assert done.stdout.startswith(b"no@example.com: 550 5.1.1 ")
    done = run(*SENDMAIL, "--server", server.address, "no@example.com")
    assert done.returncode == os.EX_NOUSER
    assert done.stderr.startswith(b"smtpstore: no@example.com: 550 5.1.1 ")
    done = run(*SENDMAIL, "--server", server.address, "no@elsewhere.test")
    assert done.returncode == os.EX_NOPERM


def test_a_server_that_is_not_there_is_for_another_time() -> None:
    words = ["--server", "127.0.0.1:9", "--from", "a@a.example", "--to", "b@b.example"]
    done = run(*SEND, *words)
    assert done.returncode == os.EX_TEMPFAIL
    assert done.stdout == b"b@b.example: 451 4.4.1 No answer from the host\n"
    assert done.stderr.startswith(b"smtpstore: nobody answers at 127.0.0.1 port 9; ")
    done = run(*SENDMAIL, "b@b.example", SMTPSTORE_SERVER="127.0.0.1:9")
    assert done.returncode == os.EX_TEMPFAIL
    assert b"451 4.4.1 No answer from the host" in done.stderr


def test_a_login_goes_in_tls_only(startServer: StartServer, tmp_path: Path) -> None:
    paths = tmp_path / "cert.pem", tmp_path / "key.pem"
    for path, octets in zip(paths, selfSigned("localhost"), strict=True):
        path.write_bytes(octets)
    tls = ["--tls-cert", str(paths[0]), "--tls-key", str(paths[1])]
    server = startServer("--domain", "example.com", "--smtps", "tcp:0:interface=127.0.0.1", *tls)
    server.addUser("bob@example.com", "secret word")
    words = ["--from", "bob@example.com", "--to", "bob@example.com", "--user", "bob@example.com"]
    env = {"SMTPSTORE_PASSWORD": "secret word", "SSL_CERT_FILE": str(paths[0])}
    for port, how in ((server.port, []), (server.portOf("SMTPS"), ["--tls", "implicit"])):
        done = run(*SEND, "--server", f"localhost:{port}", *words, *how, **env)
        assert done.returncode == 0, done.stdout
    assert server.rows("SELECT DISTINCT protocol FROM messages") == [("ESMTPSA",)]
    del env["SSL_CERT_FILE"]
    for port, how in ((server.port, []), (server.portOf("SMTPS"), ["--tls", "implicit"])):
        done = run(*SEND, "--server", f"localhost:{port}", *words, *how, **env)
        assert done.returncode == os.EX_TEMPFAIL, done.stdout
    host = FakeHost({"EHLO": "250-fake.example\r\n250 AUTH PLAIN LOGIN"})
    done = run(*SEND, "--server", f"localhost:{host.port}", *words, **env)
    host.close()
    assert done.returncode == os.EX_TEMPFAIL
    assert b"TLS is required" in done.stdout
    assert {line.split(" ")[0] for line in host.heard} <= {"EHLO", "QUIT"}


@pytest.mark.parametrize("words", [["--user", "me"], ["--tls", "starttls"], []])
def test_without_pyopenssl(startServer: StartServer, words: list[str]) -> None:
    server = startServer()
    send = [*SEND[:2], "import sys; sys.modules['OpenSSL'] = None; " + SEND[2], "send"]
    places = ["--server", server.address, "--from", "a@a.example", "--to", "b@b.example"]
    done = run(*send, *places, *words, SMTPSTORE_PASSWORD="secret")
    assert done.returncode == (1 if words else 0)
    assert (b"pip install 'smtpstore[tls]'" in done.stderr) == bool(words)
