"""The text a person reads in HTML.

Not by `html.parser`: it took 18 s for 40 KiB of `<a `.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from html import unescape

MAX_TAGS = 100_000

_SPACES = re.compile("  +")
_BLANK_LINES = re.compile("\n\n\n+")
# The second group: all the rest of the tag, where each value is in double quotes.
_TAG = re.compile('</?([a-zA-Z][a-zA-Z0-9]*)((?:[^>=]*+="[^"]*+"){0,9}[^>=]*+>)?')
_TAG_STOP = re.compile(""">|= ?(["'])""")
_BREAKS = frozenset(
    "address article blockquote br center dd div dl dt footer form h1 h2 h3 h4 h5 h6 header hr li"  # noqa: SIM905
    " main nav ol p pre section table tr ul".split()
)
_CELLS = frozenset(("td", "th"))
_UNREAD = {name: re.compile(f"</{name}", re.IGNORECASE) for name in ("script", "style", "title")}


def htmlText(html: str, limit: int) -> str:
    """About the first `limit` characters of the text of an HTML document, or more.

    Tags are out, blocks on lines of their own, entities decoded.
    """
    for blank in "\t\r\n\f":
        html = html.replace(blank, " ")
    # As &#20013; a character takes eight.
    text = "".join(_htmlPieces(_SPACES.sub(" ", html)))[: 8 * limit]
    with suppress(ValueError):  # a character reference of thousands of digits
        text = unescape(text)
    text = "\n".join(" ".join(line.split()) for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", text).strip()


def _htmlPieces(html: str) -> Iterator[str]:
    """Text, and a line end or a space for tags that make one; unclosed, a tag goes on to the end,
    as browsers have it."""
    pos = 0
    for _ in range(MAX_TAGS):
        start = html.find("<", pos)
        if start < 0:
            yield html[pos:]
            return
        yield html[pos:start]
        if tag := _TAG.match(html, start):
            name = tag[1].lower()
            pos = tag.end() if tag[2] else _tagEnd(html, tag.end())
            if name in _BREAKS:
                yield "\n"
            elif name in _CELLS:
                yield " "
            elif name in _UNREAD and not html.startswith("/", start + 1):
                closing = _UNREAD[name].search(html, pos)
                pos = closing.start() if closing else len(html)
        elif html.startswith("<!--", start):
            pos = _after(html, "-->", start + 4)
        elif html.startswith(("<!", "</", "<?"), start):
            pos = _after(html, ">", start)
        else:
            yield "<"
            pos = start + 1


def _tagEnd(html: str, pos: int) -> int:
    while stop := _TAG_STOP.search(html, pos):
        if stop[1] is None:
            return stop.end()
        pos = _after(html, stop[1], stop.end())
    return len(html)


def _after(html: str, end: str, pos: int) -> int:
    found = html.find(end, pos)
    return found + len(end) if found >= 0 else len(html)
