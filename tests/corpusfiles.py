"""The real and deliberately broken e-mails of tests/corpus (see its NOTICE)."""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path

CORPUS = Path(__file__).parent / "corpus"
_BARE_LF = re.compile(rb"(?<!\r)\n")


def crlf(octets: bytes) -> bytes:
    """Each bare LF as CRLF; a CRLF stays, and so does a lone CR."""
    return _BARE_LF.sub(b"\r\n", octets)


@lru_cache(maxsize=1)
def corpus() -> list[tuple[str, bytes]]:
    """Name (`enmime/mail/attachment.raw`) and octets, in CRLF form, of each e-mail, by name."""
    paths = sorted(path for path in CORPUS.rglob("*") if path.suffix in (".eml", ".raw"))
    return [(path.relative_to(CORPUS).as_posix(), crlf(path.read_bytes())) for path in paths]
