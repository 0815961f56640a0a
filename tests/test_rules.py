"""What a server is told to offer and to refuse, out of its settings."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from mailsrv.policies.relay import RelayPolicy
from mailsrv.policies.secure import RequireLogin, RequireTls
from mailsrv.policies.senders import OwnSenders
from mailsrv.process import StartError
from mailsrv.rules import certificateOf, policiesOf
from mailsrv.server.selfsigned import selfSigned
from mailsrv.settings import Settings, readSettings

CERT, KEY = selfSigned("mx.example.com")


def read(**given: Sequence[str]) -> Settings:
    return readSettings({name.replace("_", "-"): each for name, each in given.items()}, {})[0]


def complaint(settings: Settings) -> str:
    with pytest.raises(StartError) as caught:
        certificateOf(settings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_without_a_word_of_tls_there_is_none() -> None:
    assert certificateOf(read()) is None


def test_a_pair_of_files_and_one_made_for_trying_out(tmp_path: Path) -> None:
    pair = {"tls_cert": [str(tmp_path / "c")], "tls_key": [str(tmp_path / "k")]}
    (tmp_path / "c").write_bytes(CERT)
    (tmp_path / "k").write_bytes(KEY)
    assert certificateOf(read(**pair)) is not None
    assert certificateOf(read(tls=["auto"])) is not None
    (tmp_path / "k").write_bytes(CERT)
    assert complaint(read(**pair)).endswith("without a password; see --tls-cert and --tls-key")
    (tmp_path / "k").unlink()
    wanted = f"{tmp_path}/k: No such file or directory; see --tls-cert and --tls-key"
    assert complaint(read(**pair)) == wanted


def test_without_the_library_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "mailsrv.server.certificate", raising=False)
    monkeypatch.setitem(sys.modules, "OpenSSL", None)
    assert "pip install 'smtpstore[tls]'" in complaint(read(tls=["auto"]))


def test_policies_are_those_asked_for_tls_and_logins_first() -> None:
    def owns(*_: object) -> bool:
        return True

    assert [type(each) for each in policiesOf(read(), owns)] == [RequireLogin]
    everything = read(
        tls=["auto"], require_tls=["true"], domain=["example.com"], login_senders=["own"]
    )
    assert [type(each) for each in policiesOf(everything, owns)] == [
        RequireTls,
        RequireLogin,
        RelayPolicy,
        OwnSenders,
    ]
