"""The service inside a program that owns its reactor: start, mail, stop."""

from __future__ import annotations

import smtplib
import threading
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, fail
from twisted.internet.threads import deferToThread
from twisted.logger import globalLogPublisher

from mailsrv.service import MailService
from mailsrv.settings import Settings, readSettings

ENCODED = b"Subject: =?utf-8?q?M=C3=BCsli?=\r\n\r\nText\r\n"


def settingsFor(directory: Path, **more: list[str]) -> Settings:
    port = f"unix:{directory}/smtp.socket" if more.pop("unix", None) else "0"
    given = {"db": [f"sqlite:{directory}/mail.db"], "port": [port], **more}
    return readSettings(given, {})[0]


def service(directory: Path, **more: list[str]) -> MailService:
    from twisted.internet import reactor

    made = MailService(settingsFor(directory, **more), reactor)
    made.prepare()
    made.bind()
    return made


@pytest_twisted.ensureDeferred
async def test_it_runs_inside_another_service_and_leaves_nothing_behind(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    parent = MultiService()
    mail = service(tmp_path)
    mail.setServiceParent(parent)
    parent.startService()
    port = mail.ports[0].getHost().port

    def send() -> None:
        with smtplib.SMTP("127.0.0.1", port, timeout=20) as client:
            client.sendmail("a@example.com", "b@example.org", ENCODED)

    await deferToThread(send)
    await parent.stopService()
    left = {thread.name for thread in set(threading.enumerate()) - before if thread.is_alive()}
    assert not any("extract" in name or "commit" in name for name in left)
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP("127.0.0.1", port, timeout=20)


@pytest_twisted.ensureDeferred
async def test_without_a_network_port_no_hint_for_curl_is_given(tmp_path: Path) -> None:
    lines: list[Any] = []
    globalLogPublisher.addObserver(lines.append)
    try:
        mail = service(tmp_path, unix=["1"])
        mail._warnings.append("Mind the gap")
        mail.startService()
        await mail.stopService()
    finally:
        globalLogPublisher.removeObserver(lines.append)
    texts = [(line.get("log_format") or "") for line in lines]
    assert "{name} listens on {address}" in texts
    assert not any(text.startswith("Try it") for text in texts)
    assert [line["warning"] for line in lines if "warning" in line] == ["Mind the gap"]


@pytest_twisted.ensureDeferred
async def test_a_stop_goes_on_where_one_of_its_steps_fails_or_hangs(tmp_path: Path) -> None:
    from twisted.internet import reactor

    logged: list[Any] = []
    globalLogPublisher.addObserver(logged.append)
    mail = MailService(settingsFor(tmp_path), reactor)
    try:
        late: Deferred[None] = Deferred()
        await mail._atMost(0.01, late)
        late.callback(None)
        await mail._atMost(60, fail(RuntimeError("a step")))
    finally:
        globalLogPublisher.removeObserver(logged.append)
        await mail.stopService()
    assert [line["log_failure"].value.args for line in logged if "log_failure" in line] == [
        ("a step",)
    ]
