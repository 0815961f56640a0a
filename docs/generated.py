"""The parts of the documentation that the code knows better: options, tables, replies.

    python docs/generated.py        writes the table of options in README.rst anew

Each function returns reStructuredText; `conf.py` puts it where a page says `.. generated:: name`.
"""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mailsrv.smtp import reply as replies  # noqa: E402
from mailsrv.smtp.reply import Reply  # noqa: E402
from mailsrv.table import OPTIONS, Option  # noqa: E402
from mailsrv.web.metrics import METRICS  # noqa: E402

README = ROOT / "README.rst"
Row = Sequence[str]

# Text that stands for what differs from reply to reply.
_HOST, _ADDRESS, _ID = "mail.example.com", "<bob@elsewhere.org>", "01J…"


def text(plain: str) -> str:
    """Plain text, so that nothing in it is markup."""
    return re.sub(r"([\\*`|]|_(?!\w))", r"\\\1", plain)


def code(plain: str) -> str:
    return f"``{plain}``" if plain else ""


def table(heads: Row, rows: Iterable[Row], widths: Sequence[int]) -> str:
    """A simple table; the last column is wrapped, the others are as wide as they need."""
    rows = list(rows)
    real = [
        max(least, *(len(row[at]) for row in (heads, *rows)))
        for at, least in enumerate(widths[:-1])
    ]
    real.append(widths[-1])
    rule = "  ".join("=" * width for width in real)
    lines = [rule, _line(heads, real), rule]
    for row in rows:
        first, *rest = textwrap.wrap(row[-1], widths[-1], break_on_hyphens=False) or [""]
        lines.append(_line([*row[:-1], first], real))
        lines += [_line([""] * (len(row) - 1) + [each], real) for each in rest]
    return "\n".join([*lines, rule, ""])


def _line(cells: Row, widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def listTable(heads: Row, rows: Iterable[Row], widths: str) -> str:
    """A table of rows of any length."""
    lines = [".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", ""]
    for row in (heads, *rows):
        for at, cell in enumerate(row):
            lines.append(f"   {'* -' if not at else '  -'} {cell}".rstrip())
    return "\n".join([*lines, ""])


# Options


def _shown(option: Option) -> Row:
    """Name, default, meaning."""
    name = code(f"--{option.name}{f' {option.metavar}' if option.metavar else ''}")
    meaning, _, said = option.help.partition("; default: ")
    default = option.default
    if isinstance(default, tuple):
        default = ", ".join(map(str, default)) or None
    if isinstance(default, float):
        default = int(default)
    if not option.metavar:
        default = "off"
    shown = said or ("none" if default is None else str(default))
    return name + (" +" if option.isRepeatable else ""), text(shown), text(meaning)


def readmeOptions() -> str:
    """The table of the README."""
    return table(
        ("option", "default", "meaning"),
        [_shown(option) for option in OPTIONS if option.group],
        (0, 0, 46),
    )


def options() -> str:
    """Every option, group by group, with its variable."""
    lines = []
    for group in dict.fromkeys(option.group for option in OPTIONS if option.group):
        lines += [group, "~" * len(group), ""]
        for option in OPTIONS:
            if option.group == group:
                name, default, meaning = _shown(option)
                lines += [
                    name,
                    f"    {meaning[0].upper()}{meaning[1:]}.",
                    f"    Default: {default}. Variable: ``{option.variable}``.",
                    "",
                ]
    return "\n".join(lines)


def rewriteReadme(readme: str) -> str:
    """The README with its table of options as it should be."""
    begin, end = ".. The table is made by: make docs\n\n", "\n\nIn your own program\n"
    head, _, rest = readme.partition(begin)
    tail = rest[rest.index(end.strip("\n")) :]
    return f"{head}{begin}{readmeOptions()}\n\n{tail}"


# Tables of the database

_COLUMN = re.compile(r"^    ([a-z]\w*)(?: +([A-Z]+))?")
_STATEMENT = re.compile(
    r"^(?:CREATE (?:TABLE|VIEW)|ALTER TABLE) (\w+)(?: RENAME COLUMN (\w+))?", re.MULTILINE
)
Columns = dict[str, tuple[str, str]]


def schema() -> str:
    """Every table and column, out of the comments of schema/sqlite."""
    lines: list[str] = []
    for name, (columns, remark) in tables().items():
        lines += [name, "~" * len(name), ""]
        lines += [text(remark), ""] if remark else []
        if columns:
            rows = [
                (code(column), code(kind), text(what)) for column, (kind, what) in columns.items()
            ]
            lines += [listTable(("column", "type", "meaning"), rows, "22 13 65")]
    return "\n".join(lines)


def tables() -> dict[str, tuple[Columns, str]]:
    """The tables and views: for each column its type and meaning, and what is said of the whole.

    As the steps leave them: what one makes, a later one may change.
    """
    found: dict[str, tuple[Columns, str]] = {}
    for file in sorted((ROOT / "schema" / "sqlite").glob("*.sql")):
        remark: list[str] = []
        for block in re.split(r"\n\s*\n", file.read_text("utf-8")):
            comments = [line[3:] for line in block.splitlines() if line.startswith("-- ")]
            made = _STATEMENT.search(block)
            if made is None:
                remark += [] if re.match(r"CREATE|DROP|UPDATE", block) else comments
                continue
            name, renamed = made.groups()
            columns, _ = found.setdefault(name, ({}, " ".join([*remark, *comments])))
            kind = columns.pop(renamed)[0] if renamed else ""
            columns |= {column: (own or kind, what) for column, own, what in _columns(block)}
            remark = []
    return found


def _columns(block: str) -> Iterator[tuple[str, str, str]]:
    comment: list[str] = []
    for line in block.splitlines():
        column = _COLUMN.match(line)
        if line.startswith("    -- "):
            comment.append(line.strip()[3:])
        elif column and comment:
            yield column[1], column[2] or "", " ".join(comment)
            comment = []


# Replies


def _constants() -> Iterator[tuple[str, Reply]]:
    """Every reply of the code with the module it stands in; those with a name in it are made."""
    modules = ["smtp.reply", "server.delivery", "store.routing", "store.directory"]
    for package in ("extensions", "policies"):
        path = str(ROOT / "mailsrv" / package)
        modules += [f"{package}.{module.name}" for module in iter_modules([path])]
    for module in modules:
        for value in vars(import_module(f"mailsrv.{module}")).values():
            if isinstance(value, Reply):
                yield module, value
    for make in (replies.greeting, replies.closing, replies.unavailable, replies.shuttingDown,
                 replies.timedOut, replies.tooManyErrors, replies.tooManyConnections):  # fmt: skip
        yield "smtp.reply", make(_HOST)


# What brings a reply about, where its text does not say it. By code and first words of the text.
REASONS = {
    "220 mail": "the greeting",
    "220 Ready": "STARTTLS: the handshake follows",
    "221": "QUIT",
    "235": "AUTH: logged in",
    "250 OK": "done; after the data with the message's id: it is committed",
    "250 Sender": "MAIL",
    "250 Recipient": "RCPT",
    "250 The": "EXPN of a group without members",
    "252": "VRFY or EXPN is turned off, or the answer cannot be given",
    "334": "AUTH goes on",
    "354": "DATA",
    "421 mail.example.com the mail": "the database is needed and not there, or did not answer "
    "within --db-timeout",
    "421 mail.example.com the server": "the server is being stopped",
    "421 mail.example.com timed": "idle for --timeout, or slower than 100 octets a second",
    "421 mail.example.com too many errors": "the 21st error since the last message",
    "421 mail.example.com too many conn": "--max-connections, --max-connections-per-client",
    "451 4.3.5": "an alias or group of yours refers to itself",
    "451": "this one message, or command, failed for a reason of ours; the log says which",
    "452 4.5.3": "RCPT over --max-recipients; those before stay",
    "452": "the disk, or --spool-memory and --spool-disk, are used up",
    "454": "AUTH: wait; accounts are not locked for other addresses",
    "500 Command line": "a command line over 2,048 octets (AUTH: 12,288)",
    "500 A line": "a line of the data over --max-line; sender and recipients stay",
    "500 Bare": "the command line ended with LF alone",
    "500 NUL": "such an octet in a command line",
    "500 Syntax": "RSET, NOOP or QUIT with an argument",
    "500": "no such command",
    "501": "the argument is not what the command takes",
    "502": "a command that this server does not have, or has no certificate for",
    "503": "a command out of its sequence",
    "504": "AUTH: only PLAIN and LOGIN",
    "530 5.7.0 Must": "MAIL outside TLS, with --require-tls",
    "530": "MAIL on a submission port before AUTH",
    "535": "AUTH: wrong user or password, said after a second",
    "538": "AUTH outside TLS",
    "550 5.1.1 No such user": "neither user, alias, group nor catch-all",
    "550 5.1.1 No such group": "EXPN",
    "550 5.1.1": "VRFY of a group, EXPN of a user",
    "550 5.1.6": "the user moved to an address outside ASCII; the client did not say SMTPUTF8",
    "550 5.2.4": "every member of the group is unknown or has moved",
    "550 5.6.11": "a bare CR or LF in the data, with --bare-newlines reject",
    "550 5.7.1": "neither a domain of ours, nor a client that may relay",
    "552": "SIZE of MAIL, or the data, over --max-size",
    "553 5.1.4": "VRFY or EXPN of a name without a domain, that several domains have",
    "553 5.6.7": "an octet over 127 in MAIL or RCPT without SMTPUTF8",
    "553 5.7.1": "--login-senders own",
    "555": "a parameter that nobody offers",
}  # fmt: skip


def reasonOf(said: Reply) -> str:
    """Why this reply is said: the longest entry of REASONS that fits; '' where none does."""
    forms = (f"{said.code} {said.enhanced} {said.text}", f"{said.code} {said.text}")
    fitting = [start for start in REASONS if any(form.startswith(start) for form in forms)]
    return REASONS[max(fitting, key=len)] if fitting else ""


def allReplies() -> list[tuple[str, Reply]]:
    """Every reply once, in the order of the codes, with the module it first stands in."""
    found: dict[Reply, str] = {}
    for module, said in _constants():
        found.setdefault(said, module)
    return sorted(
        ((module, said) for said, module in found.items()),
        key=lambda each: (each[1].code, each[1].enhanced, each[1].text),
    )


def replyTable() -> str:
    """Every reply with its reason."""
    rows = [
        (str(said.code), said.enhanced, text(said.text), text(reasonOf(said)))
        for _, said in allReplies()
    ]
    return listTable(("code", "enhanced", "text", "reason"), rows, "7 11 42 40")


# Metrics


def metrics() -> str:
    """Every metric of ours."""
    rows = []
    for metric in METRICS:
        label = f"{{{metric.label}}}" if metric.label else ""
        rows.append((code(metric.name + label), metric.kind, text(metric.help)))
    return listTable(("name", "kind", "meaning"), rows, "42 12 46")


GENERATED: dict[str, Callable[[], str]] = {
    "options": options,
    "schema": schema,
    "replies": replyTable,
    "metrics": metrics,
}


if __name__ == "__main__":
    README.write_text(rewriteReadme(README.read_text("utf-8")), "utf-8")
