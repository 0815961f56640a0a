"""Dialects: what differs between the databases, and nothing more. A URL names one."""

from __future__ import annotations

from collections.abc import Callable

from mailsrv.store.database import Connection, Dialect, Fault, Finding, NotDurable
from mailsrv.store.sqlite import SqliteDialect

__all__ = [
    "Connection",
    "Dialect",
    "Fault",
    "Finding",
    "NotDurable",
    "SqliteDialect",
    "parseUrl",
]


def _sqlite(rest: str) -> Dialect:
    if not rest or rest.startswith((":", "//")) or "\0" in rest:
        raise ValueError(
            "the database URL names no SQLite file; write sqlite:PATH, without slashes before the"
            " path: sqlite:smtpstore.db, or sqlite:/var/lib/smtpstore/mail.db"
        )
    return SqliteDialect(rest)


def _mysql(rest: str) -> Dialect:
    try:
        # Only who uses it needs its driver.
        from mailsrv.store.mysql import mysql
    except ImportError as error:
        raise ValueError(
            f"{error.name} is missing, which mysql: needs; run: pip install 'smtpstore[mysql]'"
        ) from None
    return mysql(rest)


_SCHEMES: dict[str, Callable[[str], Dialect]] = {"sqlite": _sqlite, "mysql": _mysql}


def parseUrl(url: str) -> Dialect:
    """The dialect for `sqlite:PATH` or `mysql://user:password@host:port/name`.

    Raises ValueError with one line that says what is wrong and how to mend it; as a URL may
    hold a password, that line never repeats it.
    """
    scheme, colon, rest = url.partition(":")
    make = _SCHEMES.get(scheme.lower()) if colon else None
    if make is None:
        raise ValueError(
            "the database URL begins with none of "
            + ", ".join(f"{known}:" for known in _SCHEMES)
            + "; write sqlite:PATH, as in sqlite:smtpstore.db, or"
            " mysql://user:password@host:port/name"
        )
    return make(rest)
