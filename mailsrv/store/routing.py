"""Where an address leads: the order in which users, aliases and groups are asked (§3.4, §3.5).

Nothing here waits or reads a table. A walk is a generator: it yields the address keys it needs
to know, is sent what the tables hold for them, and returns its answer.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeGuard, TypeVar

from twisted.logger import Logger

from mailsrv.interfaces import Resolution
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox, domainKey, parseMailbox
from mailsrv.smtp.reply import Reply, reply
from mailsrv.store.queries.aliases import Alias
from mailsrv.store.queries.groups import Group
from mailsrv.store.queries.users import User

MAX_DEPTH = 10  # how often an alias's target or a group's members are looked up again
_MAX_NAME = 200  # characters of a full name in a reply, whose lines hold 512 octets (§4.5.3.1.5)

NO_MEMBERS = reply(550, "5.2.4", "None of the mailing list's members can receive mail")
NOT_A_USER = reply(550, "5.1.1", "That is a mailing list, not a user")
NOT_A_GROUP = reply(550, "5.1.1", "That is a user, not a mailing list")
NO_SUCH_GROUP = reply(550, "5.1.1", "No such group here")
AMBIGUOUS = reply(553, "5.1.4", "Ambiguous: say which domain you mean")
EMPTY_GROUP = reply(250, "2.1.5", "The mailing list has no members")
MOVED = reply(550, "5.1.6", "User not local; the new address cannot be shown here")
NEEDS_UTF8 = reply(252, "2.6.8", "The mailbox cannot be shown in ASCII; add SMTPUTF8")

_PLAIN_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~. -]+")
# RFC 6531 §3.7.4.2: the client takes UTF-8 in this one reply.
_ARGUMENT = re.compile(r"(.*?)( +SMTPUTF8)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Entry:
    """What the tables hold for one address key."""

    user: User | None = None
    alias: Alias | None = None
    group: Group | None = None


NOTHING = Entry()

# A Mailbox is found as itself where no table has to know it: elsewhere, or postmaster.
Found = User | Alias | Group | Mailbox | None
_T = TypeVar("_T")
Walk = Generator[Sequence[str], Mapping[str, Entry], _T]


class Routing:
    """The rules for a set of local domains, of which the first is the one of <postmaster>."""

    _log = Logger()

    def __init__(self, domains: Sequence[str]) -> None:
        self._domains = tuple(dict.fromkeys(map(domainKey, domains)))
        if not self._domains:
            raise ValueError("without a local domain there is nobody to look up")

    def resolve(self, forwardPath: Mailbox) -> Walk[Resolution]:
        """What RCPT comes to."""
        mailbox = forwardPath
        if not mailbox.domain:
            mailbox = Mailbox(mailbox.localPart, self._domains[0])
        [found] = yield from self._lookUp([mailbox])
        if isinstance(found, Alias | Group):
            resolution = yield from self._spread(found)
        else:
            resolution = self._arrive(found)
        if not resolution.reply.isPositive and self._isPostmaster(mailbox):
            return Resolution(r.RECIPIENT_OK)  # always valid (§4.5.1)
        return resolution

    def verify(self, string: str) -> Walk[Reply]:
        """The reply to VRFY."""
        text, isUtf8 = _argument(string)
        matches = yield from self._named(text)
        mailboxes = [found for found in matches if not isinstance(found, Group)]
        if not mailboxes:
            return NOT_A_USER if matches else r.NO_SUCH_USER
        if len(mailboxes) > 1:
            return AMBIGUOUS
        [found] = mailboxes
        if isinstance(found, Alias):
            return r.ALIAS_LOOP
        arrival = self._arrive(found).reply
        if arrival is not r.RECIPIENT_OK:
            return arrival  # 251 and 551 say more than 250 would (§3.5.3)
        shown = _shown(found, isUtf8)
        return NEEDS_UTF8 if shown is None else reply(250, "2.1.5", shown)

    def expand(self, string: str) -> Walk[Reply]:
        """The reply to EXPN."""
        text, isUtf8 = _argument(string)
        matches = yield from self._named(text)
        groups = [found for found in matches if isinstance(found, Group)]
        if not groups:
            return NOT_A_GROUP if any(isinstance(m, User) for m in matches) else NO_SUCH_GROUP
        if len(groups) > 1:
            return AMBIGUOUS
        members = [mailbox for mailbox in map(parseMailbox, groups[0].members) if mailbox]
        founds = yield from self._lookUp(members)
        lines = [
            _shown(found if isinstance(found, User) else mailbox, isUtf8)
            for mailbox, found in zip(members, founds, strict=True)
        ]
        if not lines:
            return EMPTY_GROUP
        shown = [line for line in lines if line is not None]
        return NEEDS_UTF8 if len(shown) < len(lines) else reply(250, "2.1.5", *shown)

    def owns(self, identity: str, mailbox: Mailbox) -> Walk[bool]:
        """Whether `mailbox` is the address `identity` logged in with, or leads there."""
        [found] = yield from self._lookUp([mailbox])
        last = yield from self._behind(found)
        if isinstance(last, User):
            last = parseMailbox(last.address)
        own = parseMailbox(identity)
        return isinstance(last, Mailbox) and own is not None and last.key == own.key

    def _named(self, text: str) -> Walk[list[User | Alias | Group | Mailbox]]:
        """Whom the argument of VRFY or EXPN names, aliases followed; an Alias that is left is a
        loop. Without a domain a catch-all counts only where nobody has the name."""
        named = parseMailbox(text)
        if named is not None:
            mailboxes = [named] if self._isLocal(named) else []
        else:
            # <postmaster> is the first domain's, as in RCPT.
            domains = self._domains[: 1 if text.lower() == "postmaster" else None]
            bare = (parseMailbox(f"{text}@{domain}") for domain in domains)
            mailboxes = [mailbox for mailbox in bare if mailbox is not None]
        first = [found for found in (yield from self._lookUp(mailboxes)) if found is not None]
        byName = [f for f in first if not (isinstance(f, Alias) and f.address.startswith("@"))]
        matches: dict[User | Alias | Group | Mailbox, None] = {}
        for found in byName or first:
            last = yield from self._behind(found)
            if last is not None:
                matches[last] = None
        return list(matches)

    def _behind(self, found: Found) -> Walk[Found]:
        """The end of a chain of aliases; the Alias that was reached where there is none."""
        for _ in range(MAX_DEPTH):
            if not isinstance(found, Alias):
                break
            [found] = yield from self._lookUp([parseMailbox(found.target)])
        return found

    def _spread(self, start: Alias | Group) -> Walk[Resolution]:
        """Everybody behind an alias or a group, level by level; a loop never runs out of levels."""
        arrivals: list[Resolution] = []
        addresses = _targets(start)
        for _ in range(MAX_DEPTH):
            founds = yield from self._lookUp([parseMailbox(address) for address in addresses])
            further: list[str] = []
            for address, found in zip(addresses, founds, strict=True):
                if isinstance(found, Alias | Group):
                    further += _targets(found)
                    continue
                arrival = self._arrive(found)
                if arrival.reply.isPositive:
                    arrivals.append(arrival)
                else:
                    self._log.warn(
                        "{address!r}, behind {start!r}, is left out: {reason}",
                        address=address,
                        start=start.address,
                        reason=arrival.reply.text,
                    )
            addresses = tuple(dict.fromkeys(further))
            if not addresses:
                break
        else:
            return Resolution(r.ALIAS_LOOP)
        if not arrivals:
            return Resolution(NO_MEMBERS if isinstance(start, Group) else r.NO_SUCH_USER)
        return Resolution(
            r.RECIPIENT_OK,
            tuple(dict.fromkeys(id for arrival in arrivals for id in arrival.mailboxes)),
            tuple(dict.fromkeys(to for arrival in arrivals for to in arrival.forwards)),
        )

    def _arrive(self, found: User | Mailbox | None) -> Resolution:
        """What becomes of mail for this one address."""
        if found is None:
            return Resolution(r.NO_SUCH_USER)
        if isinstance(found, Mailbox):
            forwards = () if self._isLocal(found) else (str(found),)
            return Resolution(r.RECIPIENT_OK, forwards=forwards)
        if found.forwardTo:
            new = parseMailbox(found.forwardTo)
            if new is not None:
                kept = (found.id,) if found.keep else ()
                return Resolution(_forwarding(new), kept, (str(new),))
            self._log.warn(
                "{address!r} is not forwarded: {new!r} is no address",
                address=found.address,
                new=found.forwardTo,
            )
        elif found.movedTo:
            return Resolution(_moving(parseMailbox(found.movedTo)))
        return Resolution(r.RECIPIENT_OK, (found.id,))

    def _lookUp(self, mailboxes: Sequence[Mailbox | None]) -> Walk[list[Found]]:
        """What each of the mailboxes is, by the tables."""
        keys = [key for mailbox in mailboxes if self._isLocal(mailbox) for key in _keys(mailbox)]
        entries = (yield keys) if keys else {}
        return [self._match(mailbox, entries) for mailbox in mailboxes]

    def _match(self, mailbox: Mailbox | None, entries: Mapping[str, Entry]) -> Found:
        if not self._isLocal(mailbox):
            return mailbox
        exact, base, domain = (entries.get(key, NOTHING) for key in _keys(mailbox))
        found = exact.user or base.user or exact.alias or exact.group
        if found is None and self._isPostmaster(mailbox):
            return mailbox
        return found or domain.alias

    def _isLocal(self, mailbox: Mailbox | None) -> TypeGuard[Mailbox]:
        return mailbox is not None and domainKey(mailbox.domain) in self._domains

    def _isPostmaster(self, mailbox: Mailbox) -> bool:
        return self._isLocal(mailbox) and mailbox.key.startswith("postmaster@")


def _keys(mailbox: Mailbox) -> tuple[str, str, str]:
    """The keys that matter to it: its own, the one before the `+`, its domain's catch-all."""
    key = mailbox.key
    local, _, domain = key.rpartition("@")
    base, _, _ = local.partition("+")
    isTagged = base and not base.startswith('"')
    return key, f"{base}@{domain}" if isTagged else key, f"@{domain}"


def _targets(found: Alias | Group) -> tuple[str, ...]:
    return (found.target,) if isinstance(found, Alias) else tuple(found.members)


def _argument(string: str) -> tuple[str, bool]:
    """The argument of VRFY or EXPN without brackets, and whether UTF-8 is welcome in the reply."""
    match = _ARGUMENT.fullmatch(string.strip())
    text = match[1] if match else ""
    return text.removeprefix("<").removesuffix(">"), bool(match and match[2])


def _forwarding(new: Mailbox) -> Reply:
    """251, or without SMTPUTF8 in hand 250 for an address outside ASCII (RFC 6531 §3.7.4.1)."""
    address = _written(new)
    if not address.isascii():
        return r.RECIPIENT_OK
    return reply(251, "2.1.5", f"User not local; will forward to <{address}>")


def _moving(new: Mailbox | None) -> Reply:
    """551, or likewise 550."""
    address = _written(new) if new is not None else ""
    if not address or not address.isascii():
        return MOVED
    return reply(551, "5.1.6", f"User not local; please try <{address}>")


def _written(mailbox: Mailbox) -> str:
    """The address with its domain as A-label: ASCII wherever it can be."""
    if mailbox.domain.isascii():
        return str(mailbox)
    return f"{mailbox.localPart}@{domainKey(mailbox.domain)}"


def _shown(found: User | Mailbox, isUtf8: bool) -> str | None:
    """`Full Name <mailbox>`, a name outside ASCII left out; None: the mailbox is not in ASCII
    and UTF-8 is not welcome."""
    address = found.address if isinstance(found, User) else _written(found)
    if not (isUtf8 or address.isascii()):
        return None
    name = found.name.strip()[:_MAX_NAME] if isinstance(found, User) else ""
    if not name or not (name.isascii() and name.isprintable()):
        return f"<{address}>"
    if not _PLAIN_NAME.fullmatch(name):
        name = '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    return f"{name} <{address}>"
