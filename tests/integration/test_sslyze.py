"""sslyze, in an environment of its own (it wants an older cryptography), looks at our TLS."""

from __future__ import annotations

import json
import re
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest

from integration.realserver import StartServer
from integration.test_tls import SMTPS, openssl

# What it says of a certificate of our own, and of curves that are stronger than its list.
HARMLESS = {"certificate_path_validation", "tls_curves"}


@pytest.fixture
def sslyze(tmp_path: Path) -> Path:
    home = tmp_path / "sslyze"
    venv.create(home, with_pip=True)
    pip = [home / "bin" / "python", "-m", "pip", "install", "--quiet", "sslyze"]
    subprocess.run(pip, check=True, timeout=300, capture_output=True)
    return home / "bin" / "sslyze"


def scan(sslyze: Path, tmp_path: Path, *target: str) -> tuple[dict[str, Any], set[str]]:
    """The results by the name of the scan, and what it holds against Mozilla's recommendation."""
    written = tmp_path / "results.json"
    done = subprocess.run(
        [sslyze, "--mozilla_config", "intermediate", f"--json_out={written}", *target],
        capture_output=True,
        text=True,
        timeout=300,
    )
    [server] = json.loads(written.read_text())["server_scan_results"]
    results = {name: each["result"] for name, each in server["scan_result"].items()}
    said = done.stdout.partition("COMPLIANCE AGAINST")[2]
    assert "localhost:" in said
    return results, set(re.findall(r"^ +\* (\w+): ", said, re.MULTILINE))


@pytest.mark.torture
@pytest.mark.parametrize("kind", ["SMTP", "SMTPS"])
def test_nothing_of_medium_or_worse_is_found(
    startServer: StartServer, sslyze: Path, tmp_path: Path, kind: str
) -> None:
    certificate, key = openssl(tmp_path, "localhost")
    server = startServer("--tls-cert", str(certificate), "--tls-key", str(key), *SMTPS)
    starttls = ["--starttls", "smtp"] if kind == "SMTP" else []
    results, against = scan(sslyze, tmp_path, *starttls, f"localhost:{server.portOf(kind)}")
    assert against <= HARMLESS
    for version in ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1"):
        assert results[f"{version}_cipher_suites"]["accepted_cipher_suites"] == []
    for version in ("tls_1_2", "tls_1_3"):
        assert results[f"{version}_cipher_suites"]["accepted_cipher_suites"]
    assert not results["tls_compression"]["supports_compression"]
    assert not results["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"]
    assert not results["heartbleed"]["is_vulnerable_to_heartbleed"]
    assert results["robot"]["robot_result"].startswith("NOT_VULNERABLE")
    assert results["session_renegotiation"]["supports_secure_renegotiation"]
    assert not results["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"]
    assert results["tls_fallback_scsv"]["supports_fallback_scsv"]
    curves = {each["name"] for each in results["elliptic_curves"]["supported_curves"]}
    assert curves <= {"X25519", "X448", "secp256r1", "prime256v1", "secp384r1", "secp521r1"}
