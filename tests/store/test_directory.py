"""Who may receive: the directory over real SQLite tables."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest
import pytest_twisted
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.logger import LogLevel, globalLogPublisher
from twisted.python.failure import Failure
from zope.interface.verify import verifyObject

from mailsrv.interfaces import IDirectory, Resolution
from mailsrv.smtp import reply as r
from mailsrv.smtp.address import Mailbox, foldCase, parseMailbox
from mailsrv.smtp.errors import Unavailable
from mailsrv.store.dialect import SqliteDialect
from mailsrv.store.directory import SinkDirectory, SqlDirectory, lookUpTxn
from mailsrv.store.migrate import upgrade
from mailsrv.store.pool import ConnectionPool
from mailsrv.store.queries.groups import addGroupTxn, groupTxn, joinGroupTxn


class Tables:
    """The tables, filled by hand as a person would."""

    def __init__(self, dialect: SqliteDialect) -> None:
        self.connection = dialect.connect()

    def user(self, address, name="", forward=None, keep=0, moved=None) -> int:
        return self._run(
            "INSERT INTO users (address, name, forward_to, keep, moved_to) VALUES (?, ?, ?, ?, ?)",
            (address, name, forward, keep, moved),
        )

    def alias(self, address, target) -> None:
        self._run("INSERT INTO aliases (address, target) VALUES (?, ?)", (address, target))

    def group(self, address, *members) -> None:
        cursor = self.connection.cursor()
        addGroupTxn(cursor, address, "")
        key = parseMailbox(address).key
        joinGroupTxn(cursor, groupTxn(cursor, key), members)
        self.connection.commit()

    def _run(self, sql, parameters) -> int:
        cursor = self.connection.execute(sql, parameters)
        self.connection.commit()
        return cursor.lastrowid


class InlinePool:
    """Runs an interaction at once, or when the test says; counts the questions."""

    def __init__(self, connection) -> None:
        self.connection = connection
        self.asked: list[list[str]] = []
        self.isHeld = False
        self.isDown = False
        self.held: list[Deferred[None]] = []
        self.error: Exception | None = None

    def runInteraction(self, interaction, keys):
        self.asked.append(list(keys))
        if self.isHeld:
            self.held.append(Deferred())
            return self.held[-1].addCallback(lambda _: self._run(interaction, keys))
        return self._run(interaction, keys)

    def _run(self, interaction, keys):
        if self.error is not None:
            return fail(self.error)
        return succeed(interaction(self.connection.cursor(), keys))

    def release(self) -> None:
        held, self.held = self.held, []
        for waiting in held:
            waiting.callback(None)


@pytest.fixture
def dialect(tmp_path) -> SqliteDialect:
    dialect = SqliteDialect(tmp_path / "mail.db")
    upgrade(dialect)
    return dialect


@pytest.fixture
def tables(dialect) -> Iterator[Tables]:
    tables = Tables(dialect)
    yield tables
    tables.connection.close()


@pytest.fixture
def pool(tables) -> InlinePool:
    return InlinePool(tables.connection)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def directory(pool, clock) -> SqlDirectory:
    return SqlDirectory(pool, ["example.com", "Example.NET", "[192.0.2.1]"], clock)


@pytest.fixture
def logged() -> Iterator[list]:
    events: list = []
    globalLogPublisher.addObserver(events.append)
    yield events
    globalLogPublisher.removeObserver(events.append)


def now(answer):
    """The answer, which has come already."""
    if not isinstance(answer, Deferred):
        return answer
    results: list = []
    answer.addBoth(results.append)
    assert results, "no answer yet"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


def path(text: str) -> Mailbox:
    return parseMailbox(text) or Mailbox(text, "")


def resolve(directory, text: str) -> Resolution:
    return now(directory.resolve(path(text)))


# Whom a forward-path names


def test_bothDirectoriesKeepTheContract(directory):
    assert verifyObject(IDirectory, directory)
    assert verifyObject(IDirectory, SinkDirectory())


def test_aUserReceivesInTheMailbox(directory, tables):
    bob = tables.user("bob@example.com")
    assert resolve(directory, "bob@example.com") == Resolution(r.RECIPIENT_OK, (bob,))


@pytest.mark.parametrize("written", ["BOB@EXAMPLE.COM", '"bob"@example.com', "Bob@Example.Com"])
def test_caseAndNeedlessQuotesDoNotMatter(directory, tables, written):
    bob = tables.user("bOb@example.com")
    assert resolve(directory, written).mailboxes == (bob,)


def test_onlyAtoZAreFolded_soNoTwoPeopleAreMerged(directory, tables):
    tables.user("É@example.com")
    assert resolve(directory, "é@example.com").reply == r.NO_SUCH_USER


def test_aDomainOutsideAsciiIsFoundByItsALabel(pool, tables, clock):
    bob = tables.user("bob@xn--bcher-kva.example")
    directory = SqlDirectory(pool, ["bücher.example"], clock)
    assert resolve(directory, "bob@BÜCHER.example").mailboxes == (bob,)


def test_anUnknownNameIs550(directory):
    assert resolve(directory, "nobody@example.com") == Resolution(r.NO_SUCH_USER)


def test_anotherDomainIsForwardedAsGiven_withoutAskingTheDatabase(directory, pool):
    assert resolve(directory, "Joe@Elsewhere.org") == Resolution(
        r.RECIPIENT_OK, forwards=("Joe@Elsewhere.org",)
    )
    assert pool.asked == []


def test_anAddressLiteralIsLocalOnlyWhereItIsConfigured(directory, tables):
    bob = tables.user("bob@[192.0.2.1]")
    assert resolve(directory, "bob@[192.0.2.1]").mailboxes == (bob,)
    assert resolve(directory, "bob@[192.0.2.2]").forwards == ("bob@[192.0.2.2]",)


def test_theTagBehindThePlusIsTheUsersOwn(directory, tables):
    ticket = tables.user("ticket@example.com")
    assert resolve(directory, "Ticket+123@example.com").mailboxes == (ticket,)


@pytest.mark.parametrize("written", ["+tag@example.com", '"a b+c"@example.com'])
def test_whatOnlyLooksLikeATagIsNone(directory, tables, written):
    tables.user("a@example.com")
    assert resolve(directory, written).reply == r.NO_SUCH_USER


def test_theOrder_exactUserThenUserBeforeThePlusThenAliasThenGroupThenCatchAll(
    directory, tables, clock
):
    address = "a+b@example.com"
    steps = []
    for fill in (
        lambda: tables.alias("@example.com", "all@example.net"),
        lambda: tables.group(address, "grouped@example.net"),
        lambda: tables.alias(address, "aliased@example.net"),
        lambda: tables.user("a@example.com"),
        lambda: tables.user(address),
    ):
        name = ["all", "grouped", "aliased", "", ""][len(steps)]
        expected = tables.user(f"{name}@example.net") if name else None
        result = fill()
        clock.advance(6)
        steps.append(resolve(directory, address).mailboxes == (expected or result,))
    assert steps == [True] * 5


# Postmaster


@pytest.mark.parametrize("written", ["postmaster", "PostMaster", "POSTMASTER@example.net"])
def test_postmasterIsAlwaysValid_andStoredWithNoMailboxWhereNobodyHasTheName(directory, written):
    assert resolve(directory, written) == Resolution(r.RECIPIENT_OK)


def test_postmasterWithoutADomainIsTheOneOfTheFirstDomain(directory, tables):
    first = tables.user("postmaster@example.com")
    tables.user("postmaster@example.net")
    assert resolve(directory, "Postmaster").mailboxes == (first,)


def test_postmasterComesBeforeTheCatchAll(directory, tables):
    tables.user("bob@example.com")
    tables.alias("@example.com", "bob@example.com")
    assert resolve(directory, "postmaster@example.com") == Resolution(r.RECIPIENT_OK)


def test_postmasterMayBeAnAlias(directory, tables):
    bob = tables.user("bob@example.com")
    tables.alias("postmaster@example.com", "bob@example.com")
    assert resolve(directory, "postmaster").mailboxes == (bob,)


def test_postmasterIsValidEvenWhereTheTablesAreWrong(directory, tables):
    tables.alias("postmaster@example.com", "nobody@example.com")
    tables.alias("postmaster@example.net", "postmaster@example.net")
    assert resolve(directory, "postmaster@example.com") == Resolution(r.RECIPIENT_OK)
    assert resolve(directory, "postmaster@example.net") == Resolution(r.RECIPIENT_OK)


def test_postmasterElsewhereIsNobodyOfOurs(directory):
    assert resolve(directory, "postmaster@else.org").forwards == ("postmaster@else.org",)


# Forwarded and moved


def test_aForwardedUserIs251_andTheMailboxHoldsNothing(directory, tables):
    tables.user("bob@example.com", forward="bob@new.org")
    resolution = resolve(directory, "bob@example.com")
    assert resolution.reply.octets == (
        b"251 2.1.5 User not local; will forward to <bob@new.org>\r\n"
    )
    assert (resolution.mailboxes, resolution.forwards) == ((), ("bob@new.org",))


def test_aForwardedUserMayKeepACopy(directory, tables):
    bob = tables.user("bob@example.com", forward="bob@new.org", keep=1)
    assert resolve(directory, "bob@example.com").mailboxes == (bob,)


def test_whatIsForwardedWithinOurDomainsIsQueuedToo(directory, tables):
    tables.user("ann@example.com")
    tables.user("bob@example.com", forward="ann@example.com")
    resolution = resolve(directory, "bob@example.com")
    assert (resolution.mailboxes, resolution.forwards) == ((), ("ann@example.com",))


def test_aMovedUserIs551(directory, tables):
    tables.user("bob@example.com", moved="bob@new.org")
    resolution = resolve(directory, "bob@example.com")
    assert resolution.reply.octets == (b"551 5.1.6 User not local; please try <bob@new.org>\r\n")
    assert not resolution.mailboxes


def test_aNewAddressOutsideAsciiIsNotSaid_250And550(directory, tables):
    tables.user("f@example.com", forward="é@new.org")
    tables.user("m@example.com", moved="é@new.org")
    forwarded = resolve(directory, "f@example.com")
    assert forwarded == Resolution(r.RECIPIENT_OK, forwards=("é@new.org",))
    moved = resolve(directory, "m@example.com")
    assert (moved.reply.code, moved.reply.enhanced) == (550, "5.1.6")
    assert moved.reply.octets.isascii()


def test_aNewDomainOutsideAsciiIsSaidAsALabel(directory, tables):
    tables.user("m@example.com", moved="m@bücher.example")
    assert "<m@xn--bcher-kva.example>" in resolve(directory, "m@example.com").reply.text


def test_whereForwardToIsNoAddressTheMailboxHoldsTheMail(directory, tables, logged):
    bob = tables.user("bob@example.com", forward="nonsense")
    assert resolve(directory, "bob@example.com") == Resolution(r.RECIPIENT_OK, (bob,))
    assert [e["log_level"] for e in logged] == [LogLevel.warn]


def test_whereMovedToIsNoAddressTheUserHasMovedAllTheSame(directory, tables):
    tables.user("bob@example.com", moved="far away")
    assert resolve(directory, "bob@example.com").reply.code == 550


# Aliases and groups


def test_anAliasLeadsToTheUsersMailbox(directory, tables):
    bob = tables.user("bob@example.com")
    tables.alias("b@example.com", "BOB@example.com")
    assert resolve(directory, "B@example.com") == Resolution(r.RECIPIENT_OK, (bob,))


def test_anAliasMayLeadElsewhere(directory, tables):
    tables.alias("b@example.com", "Bob@new.org")
    assert resolve(directory, "b@example.com").forwards == ("Bob@new.org",)


def test_behindAnAliasItIs250_alsoForAForwardedUser(directory, tables):
    bob = tables.user("bob@example.com", forward="bob@new.org", keep=1)
    tables.alias("b@example.com", "bob@example.com")
    assert resolve(directory, "b@example.com") == Resolution(
        r.RECIPIENT_OK, (bob,), ("bob@new.org",)
    )


def test_anAliasOfAMovedUserLeadsNowhere(directory, tables, logged):
    tables.user("bob@example.com", moved="bob@new.org")
    tables.alias("b@example.com", "bob@example.com")
    assert resolve(directory, "b@example.com") == Resolution(r.NO_SUCH_USER)


@pytest.mark.parametrize("target", ["nobody@example.com", "no address"])
def test_anAliasOfNobodyIs550(directory, tables, logged, target):
    tables.alias("b@example.com", target)
    assert resolve(directory, "b@example.com") == Resolution(r.NO_SUCH_USER)


def test_theCatchAllTakesWhatNobodyElseDoes(directory, tables):
    bob = tables.user("bob@example.com")
    tables.alias("@Example.com", "bob@example.com")
    assert resolve(directory, "anything@example.com").mailboxes == (bob,)
    assert resolve(directory, "anything@example.net").reply == r.NO_SUCH_USER


def test_aGroupReachesEachMemberOnce_inOrder_usersElsewhereAndGroupsAmongThem(directory, tables):
    ann = tables.user("ann@example.com")
    bob = tables.user("bob@example.com")
    tables.user("fay@example.com", forward="fay@new.org")
    tables.alias("b@example.com", "bob@example.com")
    tables.group("inner@example.com", "ann@example.com", "bob@example.com", "joe@else.org")
    tables.group(
        "all@example.com", "bob@example.com", "joe@else.org", "b@example.com",
        "inner@example.com", "fay@example.com",
    )  # fmt: skip
    assert resolve(directory, "all@example.com") == Resolution(
        r.RECIPIENT_OK, (bob, ann), ("joe@else.org", "fay@new.org")
    )


def test_aMemberUnknownOrMovedIsLeftOutAndLogged(directory, tables, logged):
    ann = tables.user("ann@example.com")
    tables.user("moved@example.com", moved="x@new.org")
    tables.group("all@example.com", "nobody@example.com", "moved@example.com", "ann@example.com")
    assert resolve(directory, "all@example.com") == Resolution(r.RECIPIENT_OK, (ann,))
    assert [event["address"] for event in logged] == ["nobody@example.com", "moved@example.com"]


def test_aGroupOfNobodyIsRefused_soTheSenderLearnsOfIt(directory, tables, logged):
    tables.group("none@example.com")
    tables.group("gone@example.com", "nobody@example.com")
    for address in ("none@example.com", "gone@example.com"):
        reply = resolve(directory, address).reply
        assert (reply.code, reply.enhanced) == (550, "5.2.4")


def test_aLoopIs451_ofAliasesAndOfGroups(directory, tables):
    tables.alias("a@example.com", "b@example.com")
    tables.alias("b@example.com", "a@example.com")
    tables.group("g@example.com", "h@example.com", "joe@else.org")
    tables.group("h@example.com", "g@example.com")
    for address in ("a@example.com", "g@example.com"):
        assert resolve(directory, address) == Resolution(r.ALIAS_LOOP)


def test_aCatchAllToAnUnknownNameOfItsOwnDomainIsALoop(directory, tables):
    tables.alias("@example.com", "nobody@example.com")
    assert resolve(directory, "x@example.com") == Resolution(r.ALIAS_LOOP)


def test_aliasesAreFollowed10Deep_andNo11(directory, tables):
    bob = tables.user("bob@example.com")
    for step in range(10):
        tables.alias(f"a{step}@example.com", f"a{step + 1}@example.com")
    tables.alias("a10@example.com", "bob@example.com")
    assert resolve(directory, "a1@example.com").mailboxes == (bob,)
    assert resolve(directory, "a0@example.com").reply == r.ALIAS_LOOP


def test_groupsThatShareMembersAreNoLoop(directory, tables):
    bob = tables.user("bob@example.com")
    for step in range(8):
        further = [f"{side}{step + 1}@example.com" for side in "lr"]
        members = further if step < 7 else ["bob@example.com"]
        tables.group(f"l{step}@example.com", *members)
        tables.group(f"r{step}@example.com", *members)
    assert resolve(directory, "l0@example.com").mailboxes == (bob,)


def test_aGroupOfMoreMembersThanOneStatementTakes(directory, tables):
    members = [f"m{n}@example.com" for n in range(6000)]
    ids = [tables.user(members[n]) for n in (0, 4999, 5999)]
    tables.alias("@example.com", "m0@example.com")
    tables.group("all@example.com", *members)
    assert sorted(resolve(directory, "all@example.com").mailboxes) == ids


# What is remembered


def test_anAnswerKnownIsGivenAtOnce_foundOrNot(directory, pool, tables):
    tables.user("bob@example.com")
    for address in ("bob@example.com", "nobody@example.com"):
        first = now(directory.resolve(path(address)))
        assert directory.resolve(path(address)) == first  # no Deferred
    assert len(pool.asked) == 2


def test_whatChangesIsSeenWithin5Seconds_countedFromTheQuestion(directory, pool, tables, clock):
    pool.isHeld = True
    waiting = directory.resolve(path("bob@example.com"))
    clock.advance(2)
    pool.release()
    assert now(waiting).reply == r.NO_SUCH_USER
    bob = tables.user("bob@example.com")
    pool.isHeld = False
    clock.advance(2.9)
    assert directory.resolve(path("bob@example.com")).reply == r.NO_SUCH_USER
    clock.advance(0.1)
    assert resolve(directory, "bob@example.com").mailboxes == (bob,)


def test_aClockSetBackDoesNotKeepOldAnswersAlive(directory, tables, clock):
    resolve(directory, "bob@example.com")
    bob = tables.user("bob@example.com")
    clock.rightNow -= 3600
    assert resolve(directory, "bob@example.com").mailboxes == (bob,)


def test_memoryIsBounded_theOldestIsForgotten(pool, tables, clock):
    directory = SqlDirectory(pool, ["example.com"], clock, maxEntries=4)
    for name in "abcdef":
        resolve(directory, f"{name}@example.com")
    assert not isinstance(directory.resolve(path("f@example.com")), Deferred)
    pool.asked.clear()
    resolve(directory, "a@example.com")
    assert pool.asked == [["a@example.com"]]


# One query for all who wait


def test_whatWaitsSharesOneQuery(directory, pool, tables):
    ids = [tables.user(f"{name}@example.com") for name in "abc"]
    pool.isHeld = True
    waiting = [directory.resolve(path(f"{name}@example.com")) for name in "abc"]
    pool.release()
    pool.release()
    assert [now(answer).mailboxes for answer in waiting] == [(id,) for id in ids]
    assert pool.asked == [
        ["a@example.com", "@example.com"],
        ["b@example.com", "@example.com", "c@example.com"],
    ]


def test_whoGivesUpWhileWaitingAsksNothing_andDisturbsNobody(directory, pool, tables):
    ann = tables.user("ann@example.com")
    pool.isHeld = True
    first = directory.resolve(path("ann@example.com"))
    second = directory.resolve(path("bob@example.com"))
    second.cancel()
    with pytest.raises(CancelledError):
        now(second)
    pool.release()
    assert now(first).mailboxes == (ann,)
    assert len(pool.asked) == 1


# When the database fails


@pytest.mark.parametrize("ask", ["resolve", "verify", "expand"])
def test_anErrorOfTheDatabaseIsUnavailable_oneLogLineAndNoTraceback(directory, pool, logged, ask):
    pool.error = sqlite3.OperationalError("disk I/O error\nat length")
    question = path("bob@example.com") if ask == "resolve" else "bob@example.com"
    with pytest.raises(Unavailable):
        now(getattr(directory, ask)(question))
    assert [(e["log_level"], e["error"]) for e in logged] == [
        (LogLevel.warn, "OperationalError: disk I/O error at length")
    ]
    assert "log_failure" not in logged[0]


def test_afterAnErrorTheDirectoryRecovers(directory, pool, tables, logged):
    bob = tables.user("bob@example.com")
    pool.error = sqlite3.OperationalError("gone")
    with pytest.raises(Unavailable):
        resolve(directory, "bob@example.com")
    pool.error = None
    assert resolve(directory, "bob@example.com").mailboxes == (bob,)


def test_aPoolThatRaisesIsAnErrorLikeAnyOther(clock, logged):
    class BrokenPool:
        def runInteraction(self, *_):
            raise RuntimeError("no threads")

    with pytest.raises(Unavailable):
        resolve(SqlDirectory(BrokenPool(), ["example.com"], clock), "bob@example.com")


def test_noAnswerIn30SecondsIsUnavailable_alsoForThoseWhoWaitTheirTurn(directory, pool, clock):
    pool.isHeld = True
    first = directory.resolve(path("ann@example.com"))
    second = directory.verify("bob@example.com")
    clock.advance(29.9)
    assert not any(answer.called for answer in (first, second))
    clock.advance(0.2)
    for answer in (first, second):
        with pytest.raises(Unavailable):
            now(answer)


def test_whileTheDatabaseIsKnownToBeDownOneAsksAndTheOthersDoNotWait(
    directory, pool, tables, clock
):
    bob = tables.user("bob@example.com")
    pool.isHeld = pool.isDown = True
    probe = directory.resolve(path("bob@example.com"))
    with pytest.raises(Unavailable):
        now(directory.resolve(path("ann@example.com")))
    assert not probe.called
    pool.release()
    assert now(probe).mailboxes == (bob,)


def test_theDeadlineCountsForTheWholeChainOfLookUps(directory, pool, tables, clock):
    tables.alias("a@example.com", "b@example.com")
    tables.alias("b@example.com", "c@example.com")
    pool.isHeld = True
    answer = directory.resolve(path("a@example.com"))
    clock.advance(20)
    pool.release()
    clock.advance(11)
    with pytest.raises(Unavailable):
        now(answer)


def test_anAnswerThatComesTooLateIsRememberedAllTheSame(directory, pool, tables, clock):
    bob = tables.user("bob@example.com")
    pool.isHeld = True
    late = SqlDirectory(pool, ["example.com"], clock, timeout=1)
    answer = late.resolve(path("bob@example.com"))
    clock.advance(1.1)
    with pytest.raises(Unavailable):
        now(answer)
    pool.release()
    assert late.resolve(path("bob@example.com")).mailboxes == (bob,)


def test_withoutALocalDomainThereIsNothingToLookUp(pool, clock):
    with pytest.raises(ValueError, match="local domain"):
        SqlDirectory(pool, [], clock)


# VRFY


def verify(directory, string) -> str:
    return now(directory.verify(string)).octets.decode().strip()


@pytest.mark.parametrize("string", ["bob", "BOB@example.com", "<bob@example.com>", "<bob>"])
def test_vrfyShowsNameAndMailbox(directory, tables, string):
    tables.user("Bob@example.com", "Bob Q. Public")
    assert verify(directory, string) == "250 2.1.5 Bob Q. Public <Bob@example.com>"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "<bob@example.com>"),
        ("Zoë", "<bob@example.com>"),
        ("Bob\r\n250 evil", "<bob@example.com>"),
        ("Public, Bob", '"Public, Bob" <bob@example.com>'),
        ('Bob "the <cat>" \\', '"Bob \\"the <cat>\\" \\\\" <bob@example.com>'),
        ("B" * 300, "B" * 200 + " <bob@example.com>"),
    ],
)
def test_vrfyQuotesANameWithSpecials_andLeavesOutWhatIsNotAscii(directory, tables, name, shown):
    tables.user("bob@example.com", name)
    assert verify(directory, "bob") == f"250 2.1.5 {shown}"


@pytest.mark.parametrize("string", ["nobody", "nobody@example.com", "bob@else.org", "@", "a b"])
def test_vrfyOfNobodyIs550(directory, tables, string):
    tables.user("bob@example.com")
    assert verify(directory, string).startswith("550 5.1.1")


def test_vrfyWithoutADomainIsAmbiguousWhereSeveralMatch(directory, tables):
    tables.user("bob@example.com")
    tables.user("bob@example.net")
    assert verify(directory, "bob").startswith("553 5.1.4 Ambiguous")
    assert verify(directory, "bob@example.net") == "250 2.1.5 <bob@example.net>"


def test_vrfyIsNotAmbiguousWhereAllLeadToOneMailbox(directory, tables):
    tables.user("bob@example.com", "Bob")
    tables.alias("bob@example.net", "bob@example.com")
    assert verify(directory, "bob") == "250 2.1.5 Bob <bob@example.com>"


def test_vrfyOfAnAliasShowsTheMailboxBehindIt(directory, tables):
    tables.user("bob@example.com", "Bob")
    tables.alias("b@example.com", "c@example.com")
    tables.alias("c@example.com", "bob@example.com")
    tables.alias("far@example.com", "bob@new.org")
    tables.alias("@example.net", "bob@example.com")
    assert verify(directory, "b") == "250 2.1.5 Bob <bob@example.com>"
    assert verify(directory, "far@example.com") == "250 2.1.5 <bob@new.org>"
    assert verify(directory, "anything@example.net") == "250 2.1.5 Bob <bob@example.com>"


def test_vrfyOfABareNamePrefersWhoHasItToTheCatchAll(directory, tables):
    tables.user("bob@example.com", "Bob")
    tables.user("ann@example.net", "Ann")
    tables.alias("@example.net", "ann@example.net")
    assert verify(directory, "bob") == "250 2.1.5 Bob <bob@example.com>"
    assert verify(directory, "nobody") == "250 2.1.5 Ann <ann@example.net>"


def test_vrfyOfAnAliasOfNobodyAndOfALoop(directory, tables):
    tables.alias("a@example.com", "nobody@example.com")
    tables.alias("l@example.com", "l@example.com")
    assert verify(directory, "a").startswith("550 5.1.1")
    assert verify(directory, "l@example.com").startswith("451 4.3.5")


def test_vrfyOfAGroupSaysWhatItIs(directory, tables):
    tables.group("all@example.com", "bob@example.com")
    assert verify(directory, "all").startswith("550 ")
    assert "a mailing list, not a user" in verify(directory, "all")


def test_vrfySaysWhereAUserHasGone(directory, tables):
    tables.user("f@example.com", forward="f@new.org")
    tables.user("m@example.com", moved="m@new.org")
    assert verify(directory, "f") == "251 2.1.5 User not local; will forward to <f@new.org>"
    assert verify(directory, "m") == "551 5.1.6 User not local; please try <m@new.org>"


def test_vrfyPostmasterIsTheFirstDomains(directory):
    assert verify(directory, "Postmaster") == "250 2.1.5 <Postmaster@example.com>"


def test_aMailboxOutsideAsciiIsShownOnlyToWhoSaysSmtputf8(directory, tables):
    tables.user("é@example.com", "Zoë")
    assert verify(directory, "é").startswith("252 2.6.8")
    assert verify(directory, "é@example.com smtputf8") == "250 2.1.5 <é@example.com>"


# EXPN


def expand(directory, string) -> list[str]:
    return now(directory.expand(string)).octets.decode().splitlines()


@pytest.mark.parametrize("string", ["all", "ALL@example.com", "<all@example.com>"])
def test_expnGivesALineForEachMember(directory, tables, string):
    tables.user("ann@example.com", "Ann")
    tables.user("bob@example.com")
    tables.group(
        "all@example.com",
        "ann@example.com",
        "bob@example.com",
        "joe@bücher.example",
        "x@example.com",
    )
    assert expand(directory, string) == [
        "250-2.1.5 Ann <ann@example.com>",
        "250-2.1.5 <bob@example.com>",
        "250-2.1.5 <joe@xn--bcher-kva.example>",
        "250 2.1.5 <x@example.com>",
    ]


def test_expnFollowsAnAliasToItsGroup(directory, tables):
    tables.group("all@example.com", "joe@else.org")
    tables.alias("everybody@example.com", "all@example.com")
    assert expand(directory, "everybody") == ["250 2.1.5 <joe@else.org>"]


def test_expnOfAnEmptyGroupSaysSo(directory, tables):
    tables.group("none@example.com")
    assert expand(directory, "none") == ["250 2.1.5 The mailing list has no members"]


def test_expnOfAUserSaysWhatItIs(directory, tables):
    tables.user("bob@example.com")
    [line] = expand(directory, "bob")
    assert line.startswith("550 ")
    assert "a user, not a mailing list" in line


def test_expnOfAnUnknownGroup(directory):
    [line] = expand(directory, "nothing")
    assert line == "550 5.1.1 No such group here"


def test_expnIsAmbiguousWhereSeveralGroupsMatch(directory, tables):
    tables.group("all@example.com", "a@else.org")
    tables.group("all@example.net", "b@else.org")
    assert expand(directory, "all")[0].startswith("553 5.1.4")
    assert expand(directory, "all@example.net") == ["250 2.1.5 <b@else.org>"]


def test_expnOfAMemberOutsideAsciiNeedsSmtputf8(directory, tables):
    tables.group("all@example.com", "é@else.org", "a@else.org")
    assert expand(directory, "all")[0].startswith("252 2.6.8")
    assert expand(directory, "all SMTPUTF8")[0] == "250-2.1.5 <é@else.org>"


# The sink


def test_inASinkEverybodyReceives_withNoMailboxAndNothingQueued():
    sink = SinkDirectory()
    assert sink.resolve(path("anybody@anywhere.org")) == Resolution(r.RECIPIENT_OK)
    assert sink.resolve(path("postmaster")) == Resolution(r.RECIPIENT_OK)


def test_aSinkClaimsToHaveVerifiedNobody():
    assert SinkDirectory().verify("anybody").code == 252
    assert SinkDirectory().expand("anybody").code == 252


# The tables


@given(st.text(st.characters(blacklist_characters="\0", blacklist_categories=["Cs"])))
def test_sqlitesLowerFoldsAsTheServerDoes(text):
    with sqlite3.connect(":memory:") as connection:
        [folded] = connection.execute("SELECT lower(?)", (text,)).fetchone()
    connection.close()
    assert folded == foldCase(text)


def test_aRowInsertedByHandIsFound_andItsTwinRefused(tables):
    tables.user("Bob@Example.com")
    with pytest.raises(sqlite3.IntegrityError):
        tables.user("bob@example.com")
    found = lookUpTxn(tables.connection.cursor(), ["bob@example.com"])
    assert found["bob@example.com"].user.address == "Bob@Example.com"


def test_anIdIsNeverGivenTwice_soNoNewUserInheritsOldMail(tables):
    old = tables.user("bob@example.com")
    tables.connection.execute("DELETE FROM users")
    assert tables.user("ann@example.com") > old


@pytest_twisted.ensureDeferred
async def test_overARealPool(dialect, tables):
    bob = tables.user("bob@example.com", "Bob")
    pool = ConnectionPool(dialect, reactor, 2)
    directory = SqlDirectory(pool, ["example.com"], reactor)
    try:
        names = ["bob", "nobody", "bob", "postmaster"]
        answers = [directory.resolve(path(f"{name}@example.com")) for name in names]
        assert [(await answer).reply.code for answer in answers] == [250, 550, 250, 250]
        assert directory.resolve(path("bob@example.com")).mailboxes == (bob,)
        assert directory.verify("bob").text == "Bob <bob@example.com>"
    finally:
        await pool.close()
    with pytest.raises(Unavailable):
        await directory.resolve(path("new@example.com"))
