"""The example of a program that receives messages by a callable, run as a person would."""

from __future__ import annotations

import signal
import smtplib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MESSAGE = b"Subject: My printer is on fire\r\n\r\nHelp.\r\n"


def test_the_example_is_told_of_each_message(tmp_path: Path) -> None:
    assert len((ROOT / "examples/events.py").read_text().splitlines()) <= 60
    command = [sys.executable, str(ROOT / "examples/events.py"), str(tmp_path / "mail.db"), "0"]
    program = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": str(ROOT)}
    )
    try:
        assert program.stdout is not None
        port = int(program.stdout.readline().rsplit(" ", 1)[1])
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.sendmail("alice@example.org", ["support@example.com"], MESSAGE)
            line = program.stdout.readline()
        assert line == "alice@example.org to support@example.com: My printer is on fire\n"
        program.send_signal(signal.SIGTERM)
        assert program.wait(20) in (0, -signal.SIGTERM)
    finally:
        program.kill()
        program.wait()
        program.stdout.close()
