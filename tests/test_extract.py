"""Extraction: what people read is found in good mail, and no octets whatever do harm."""

from __future__ import annotations

import encodings
import sys
import time
from base64 import b64encode
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from corpusfiles import corpus, crlf
from mailsrv.extract import FIRST_LOOK, extract, extractFirst, extractPlain
from mailsrv.smtp.message import Summary

MIB = 1_048_576
CORPUS = dict(corpus())


def assertStorable(summary: Summary) -> None:
    """Every value fits its column: utf8mb4 text without NUL, DATETIME from the year 1000 on."""
    for text, limit in (
        (summary.subject, 1000),
        (summary.body, 65_536),
        (summary.messageId, 998),
    ):
        if text is not None:
            assert len(text) <= limit
            assert "\0" not in text
            text.encode()  # raises on a lone surrogate
    assert not set("\r\n") & set((summary.subject or "") + (summary.messageId or ""))
    assert "\r" not in (summary.body or "")
    assert summary.messageId != ""
    if summary.date is not None:
        assert summary.date.utcoffset() == timedelta(0)
        assert 1000 <= summary.date.year <= 9999


def subject(value: str | bytes) -> str | None:
    octets = value.encode() if isinstance(value, str) else value
    return extract(b"Subject: " + octets + b"\r\n\r\n").subject


def date(value: str) -> datetime | None:
    return extract(b"Date: " + value.encode() + b"\r\n\r\n").date


def textOf(octets: bytes, contentType: str = "text/plain", encoding: str = "8bit") -> str | None:
    head = f"Content-Type: {contentType}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n"
    return extract(head.encode() + octets).body


def html(markup: str) -> str | None:
    return textOf(markup.encode(), "text/html; charset=utf-8")


def multipart(*parts: str, kind: str = "mixed") -> str | None:
    inner = "".join(f"--=_b\r\n{part}\r\n" for part in parts)
    text = f'Content-Type: multipart/{kind}; boundary="=_b"\r\n\r\n{inner}--=_b--\r\n'
    return extract(text.encode()).body


# The corpus


@pytest.mark.parametrize("name", CORPUS)
def test_each_mail_of_the_corpus_gives_storable_values_and_both_paths_agree(name: str) -> None:
    for octets in (CORPUS[name], CORPUS[name].replace(b"\r\n", b"\n")):
        summary = extract(octets)
        assertStorable(summary)
        assert extractPlain(octets) in (None, summary)
        for look in range(0, len(octets), 97 + len(octets) // 50):
            assert extractFirst(octets[:look]) in (None, summary)


def test_the_kind_of_line_end_makes_no_difference() -> None:
    octets = CORPUS["mikel-mail/plain_emails/basic_email.eml"]
    assert b"\r\n" in octets
    for lineEnd in (b"\n", b"\r"):
        assert extract(octets.replace(b"\r\n", lineEnd)) == extract(octets)


def utc(*fields: int) -> datetime:
    return datetime(*fields, tzinfo=UTC)  # type: ignore[arg-type]


# Read by a person; the body is given by its beginning.
GOLDEN: list[tuple[str, str | None, datetime | None, str | None, str | None]] = [
    ("mail-parser/legacy/022.eml", "Die Hasen und die Frösche (Microsoft Outlook 00)", utc(2000, 5, 17, 23, 11, 50), "<NDBBIAKOPKHFGPLCODIGAEKCCHAA.doug@example.com>", 'Die Hasen und die Frösche\n\nDie Hasen klagten einst über ihre mißliche Lage; "wir leben"'),
    ("mikel-mail/multi_charset/japanese.eml", "まみむめも", None, None, "かきくえこ\n\n-- \nhttp://lindsaar.net/\n"),
    ("mikel-mail/multi_charset/japanese_iso_2022.eml", "まみむめも", None, None, "すみません。\n\n"),
    ("mikel-mail/multi_charset/japanese_shift_jis.eml", "test", utc(2014, 5, 28, 8, 18, 19), "<xxxxx@docomo.ne.jp>", "あいうえお\n\nこのメールはテスト用のメールです。\n"),
    ("mikel-mail/multi_charset/ks_c_5601-1987.eml", "test", utc(2014, 5, 28, 8, 18, 19), "<from@example.com>", "스티해\n"),
    ("mikel-mail/plain_emails/raw_email.eml", "NOTE: 한국말로 하는 것", utc(2005, 5, 2, 22, 7, 5), "<d3b8cf8e49f04480850c28713a1f473e@37signals.com>", "대부분의 마찬가지로, 우리는 하나님을 믿습니다.\n\n제 이름은 Jamis입니다."),
    ("mikel-mail/plain_emails/raw_email_with_partially_quoted_subject.eml", 'Re: Test: "漢字" mid "漢字" tail', utc(2005, 5, 2, 22, 7, 5), "<d3b8cf8e49f04480850c28713a1f473e@37signals.com>", "대부분의"),
    ("mikel-mail/rfc6532/utf8_headers.eml", "Säying Hello", None, None, "body\n"),
    ("mikel-mail/error_emails/bad_subject.eml", "MySurvey.com:  You have a survey waiting!  91123105", utc(2010, 12, 15, 17, 21, 20), None, "You have a survey waiting!\n"),
    ("mikel-mail/error_emails/weird_to_header.eml", "", utc(2010, 10, 15, 3, 25, 6), "<20101015032506.28448.qmail@i.tp.host>", "\nCONTACT:\n"),
    ("mikel-mail/plain_emails/raw_email_incorrect_header.eml", "Stop adware/spyware once and for all.", utc(2005, 2, 23, 22, 20, 17), "<4D6AA7EB.6490534@xxx.xxx>", "You are infected with: \nAd Ware and Spy Ware\n"),
    ("mikel-mail/plain_emails/raw_email_quoted_with_0d0a.eml", "testing", utc(2005, 6, 6, 20, 21, 22), "<9169D984-4E0B-45EF-82D4-8F5E53AD7012@example.com>", "A fax has arrived from remote ID ''.\n-----"),
    ("enmime/mail/qp-utf8-header.raw", "MIME UTF8 Test ¢ More Text", utc(2012, 10, 19, 19, 22, 49), "<5081A889.3020108@jamehi03lx.noa.com>", "Lorem ipsum dolor sit amet, "),
    ("enmime/mail/non-mime-html-charset-header-only.raw", "Test", None, "<1913211271.2.1528358425638@zeus>", "Test Müller"),
    ("enmime/mail/attachment-only.raw", "Test", utc(2016, 1, 21, 9, 52, 31), "<56A0AA5F.4020203@test.com>", None),
    ("enmime/mail/erroneous.raw", None, None, None, "// Not an RFC-822 Document"),
    ("enmime/low-quality/bad-header-start.raw", "plain text", utc(2012, 10, 19, 5, 48, 39), "<07B7061D-2676-487E-942E-C341CE4D13DC@makita.skynet>", "A text section"),
    ("enmime/parts/extra-base64-character.raw", "Each part contains 1 extra base64 character (4*n + 1)", None, None, "Hello World!"),
    ("mail-parser/thirdparty/007.eml", None, None, None, "This is my opinion"),
    ("mail-parser/thirdparty/010.eml", "こんにちは", None, None, "人権の無視及"),
    ("mail-parser/malformed/010.eml", None, None, None, "1\n"),
    ("mail-parser/malformed/022.eml", "broken rfc822 attachment", None, None, "hello"),
]  # fmt: skip


@pytest.mark.parametrize("golden", GOLDEN, ids=[golden[0] for golden in GOLDEN])
def test_mail_is_read_as_a_person_reads_it(
    golden: tuple[str, str | None, datetime | None, str | None, str | None],
) -> None:
    name, expectedSubject, expectedDate, messageId, bodyStart = golden
    summary = extract(CORPUS[name])
    assert (summary.subject, summary.date, summary.messageId) == (
        expectedSubject,
        expectedDate,
        messageId,
    )
    if bodyStart is None:
        assert summary.body is None
    else:
        assert summary.body is not None
        assert summary.body[: len(bodyStart)] == bodyStart


# Subject


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        ("  plain ", "plain"),
        ("", ""),
        ("folded\r\n here\r\n\tand there", "folded here\tand there"),
        ("=?utf-8?q?a_b=21?= c", "a b! c"),
        ("=?utf-8?b?4pyT?=  =?utf-8?b?4pyT?=", "✓✓"),
        ("=?utf-8?b?4p?=\r\n =?UTF-8?q?=9C=93?=", "✓"),
        ("=?iso-8859-1?q?=E4?= =?utf-8?q?=C3=A4?=", "ää"),
        ("=?iso-8859-1*de?q?=E4?=", "ä"),
        ("a =?utf-8?q?b?= c =?utf-8?q?d?= e", "a b c d e"),
        ("=?nonesuch?q?=E4?=", "ä"),
        ("=?utf-8?q?=FF?=", "\ufffd"),
        ("=?utf-8?q?=00?=", "\ufffd"),
        ("=?utf-8?q?a=0D=0ABcc:_x?=", "aBcc: x"),
        ("=?utf-7?q?+2AA-?=", "?"),
        ("=?utf-8?b?!!!?=", ""),
        ("=?utf-8?q?what??=", "what?"),
        ("=?utf-8?q?never closed", "=?utf-8?q?never closed"),
        ("=?rot13?q?uryyb?= =?zlib?q?x?=", "uryybx"),
        ("=?shift_jis?b?h0A=?=", "①"),
        ("grün", "grün"),
        (b"gr\xfcn", "grün"),
        (b"nul \0 here", "nul \ufffd here"),
    ],
)
def test_subjects_are_unfolded_and_decoded(raw: str | bytes, text: str) -> None:
    assert subject(raw) == text


def test_the_first_subject_counts_and_one_in_the_body_does_not() -> None:
    assert extract(b"SUBJECT : a\r\nSubject: b\r\n\r\n").subject == "a"
    assert extract(b"From: a@example.com\r\n\r\nSubject: x\r\n").subject is None


def test_a_subject_is_cut_at_1000_characters() -> None:
    assert subject("ü" * 1001) == "ü" * 1000
    assert subject("=?utf-8?b?" + b64encode(("✓" * 1001).encode()).decode() + "?=") == "✓" * 1000


def test_the_201st_encoded_word_stays_as_it_is() -> None:
    text = subject("=?utf-8?q?a?= " * 201)
    assert text == "a" * 200 + " =?utf-8?q?a?="


# Date and Message-ID


@pytest.mark.parametrize(
    ("raw", "instant"),
    [
        ("Sun, 22 Nov 2026 14:00:00 +0100", utc(2026, 11, 22, 13)),
        ("22 Nov 2026 14:00 -0000 (comment)", utc(2026, 11, 22, 14)),
        ("Sun, 22 Nov 2026 14:00:00", utc(2026, 11, 22, 14)),
        ("Sun, 22 Nov 26 09:00:00 EST", utc(2026, 11, 22, 14)),
        ("Sat, 31 Dec 2016 23:59:60 +0000", utc(2016, 12, 31, 23, 59, 59)),
        ("Sun, 22 Nov 2026 14:00:00 +9900", None),
        ("Sun, 31 Feb 2026 14:00:00 +0000", None),
        ("Sun, 22 Nov 0999 14:00:00 +0000", None),
        ("1 Jan 1000 00:30:00 +0100", None),
        ("31 Dec 9999 23:30:00 -0100", None),
        ("31 Dec 9999 23:30:00 +0000", utc(9999, 12, 31, 23, 30)),
        ("1 Jan " + "9" * 5000 + " 1:1:1 +0000", None),
        ("yesterday", None),
        ("", None),
        (", , , , ,", None),
        ("1 Jan 2026 , +0000", None),
    ],
)
def test_dates_are_read_as_utc_or_not_at_all(raw: str, instant: datetime | None) -> None:
    assert date(raw) == instant


@given(
    st.datetimes(utc(1970, 1, 1).replace(tzinfo=None), utc(9998, 1, 1).replace(tzinfo=None)),
    st.integers(-1439, 1439),
)
def test_every_date_a_mail_program_writes_is_read(local: datetime, minutes: int) -> None:
    written = local.replace(microsecond=0, tzinfo=timezone(timedelta(minutes=minutes)))
    assert date(format_datetime(written)) == written


USUAL_DATES = st.builds(
    "{}{} {} {} {}:{}:{} {}{}".format,
    st.sampled_from(["", "Sun, ", "sun, ", "xyz, ", "Sun ", "Sunday, ", "Sun,"]),
    st.sampled_from(["1", "01", "9", "22", "28", "29", "30", "31", "32", "00", "0", "122", "x"]),
    st.sampled_from(["Jan", "Feb", "Jun", "Nov", "Dec", "dec", "May", "Mai", "November"]),
    st.sampled_from(["2026", "2000", "2099", "2024", "1999", "1000", "26", "20260", "9999"]),
    st.sampled_from(["00", "14", "23", "24", "25", "7", "1x"]),
    st.sampled_from(["00", "59", "60", "5"]),
    st.sampled_from(["00", "59", "60", "61", "5"]),
    st.sampled_from(
        ["+0000", "-0000", "+0100", "-0930", "+1400", "-2359", "+2400", "+1260", "+0199", "+9999",
         "-9999", "0100", "+100", "EST", "Z", ""]
    ),
    st.sampled_from(["", " (UTC)", " UTC", " +0100", "(x)", "\t", " -", "\x0b", "\x1c", " 2026"]),
)  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(USUAL_DATES, st.floats(0, 1), st.integers(0, 2), st.sampled_from(["", *" \t0129:,.+-()aNé"]))
@example("Sun, 22 Nov 2026 24:00:00 +0000", 0, 0, "")
@example("Sun, 31 Dec 2016 23:59:60 +0000", 0, 0, "")
def test_a_date_in_the_usual_form_is_the_instant_that_the_reader_of_all_forms_finds(
    text: str, place: float, dropped: int, inserted: str
) -> None:
    at = int(place * len(text))
    text = text[:at] + inserted + text[at + dropped :]
    # Two spaces mean what one does, and are not of the usual form.
    assert date(text) == date(text.replace(" ", "  "))


@given(st.text(st.sampled_from("JanFeb 0129:,.+-()\tUTC"), max_size=40))
def test_a_date_of_any_text_does_not_raise(text: str) -> None:
    assertStorable(extract(b"Date: " + text.encode() + b"\r\n\r\n"))


def test_the_message_id_is_kept_with_its_brackets() -> None:
    assert extract(b"Message-Id:\r\n <a@b> \r\n\r\n").messageId == "<a@b>"
    assert extract(b"Message-Id:  \r\n\r\n").messageId is None
    assert extract(b"Message-Id: " + b"x" * 2000 + b"\r\n\r\n").messageId == "x" * 998


# Header and body


def test_without_a_header_all_is_body() -> None:
    assert extract(b"Dear Bob,\r\nNote: this\r\n") == Summary(body="Dear Bob,\nNote: this\n")
    assert extract(b"\r\nSubject: x\r\n") == Summary(body="Subject: x\n")
    assert extract(b"") == Summary(body="")


def test_a_body_may_follow_its_header_without_the_empty_line() -> None:
    assert extract(b"Subject: x\r\nHello there\r\n") == Summary(subject="x", body="Hello there\n")


def test_the_from_line_of_an_mbox_is_passed_over() -> None:
    assert extract(b"From bob Mon Jan  1\r\nSubject: x\r\n\r\ny") == Summary(subject="x", body="y")


@pytest.mark.parametrize(
    ("octets", "contentType", "encoding", "text"),
    [
        (b"a\r\nb\rc\n", "text/plain", "7bit", "a\nb\nc\n"),
        ("grün".encode(), "text/plain", "8bit", "grün"),
        (b"gr\xfcn", "text/plain", "8bit", "grün"),
        (b"gr\xfcn", "text/plain; charset=utf-8", "8bit", "gr\ufffdn"),
        (b"gr\xfcn", 'text/plain; charset="nonesuch"', "8bit", "grün"),
        (b"gr\xfcn", "text/plain charset=iso-8859-1", "8bit", "grün"),
        (b"gr=FCn=\r\n!", "text/plain; charset=iso-8859-1", "Quoted-Printable;", "grün!"),
        (b"Z3LDvG4", "text/plain; charset=utf-8", "BASE64", "grün"),
        (b"YQ0KYg1j", "text/plain", "base64", "a\nb\nc"),
        (b"as it is", "text/plain", "base9000", "as it is"),
        (
            b"begin 644 x\r\n#86)C\r\n\r\n#86)C\r\n`\r\nend\r\n",
            "text/plain",
            "x-uuencode",
            "abcabc",
        ),
        (b"no such file", "text/plain", "x-uuencode", "no such file"),
        (b"\0", "text/plain", "8bit", "\ufffd"),
        (b"x", "nonsense", "7bit", "x"),
        (b"BEGIN:VCALENDAR", "text/calendar", "7bit", "BEGIN:VCALENDAR"),
        (b"x", "image/png", "7bit", None),
        (b"", "text/plain", "7bit", ""),
    ],
)
def test_the_body_is_decoded(
    octets: bytes, contentType: str, encoding: str, text: str | None
) -> None:
    assert textOf(octets, contentType, encoding) == text


def test_a_body_is_cut_at_65536_characters_and_not_within_one() -> None:
    assert textOf(b"a" * 65_537) == "a" * 65_536
    assert textOf("aé😀".encode() * 100_000) == ("aé😀" * 100_000)[:65_536]
    assert textOf("😀".encode() * 65_537) == "😀" * 65_536
    assert textOf(b"a" + "😀".encode() * 65_537) == "a" + "😀" * 65_535


@pytest.mark.parametrize(
    ("markup", "text"),
    [
        ("<p>a<p>b", "a\nb"),
        ("a<br>b<BR/>c", "a\nb\nc"),
        ("a  <b>b</b>\r\n c&nbsp;d", "a b c d"),
        ("<title>t</title><style>p{}</style>a<script>if (a<b) '</p>'</SCRIPT>b", "ab"),
        ("a<!-- <p> -->b<![if x]>c<?php ?>d</>e", "abcde"),
        ("<a title=\"a > b\" href='>'>x</a>", "x"),
        ('<a title="a > b" href=">">x</a>', "x"),
        ("<p " + 'a=">" ' * 12 + ">x", "x"),
        ('<a b="" c=">x', ""),
        ("1 < 2 &lt;b&gt; &amp;amp; &#x2713; &auml;", "1 < 2 <b> &amp; ✓ ä"),
        ("<td>a</td><td>b</td>", "a b"),
        ("a<p></p><p></p><p></p>b", "a\n\nb"),
        ("a<b never closed", "a"),
        ("a<b c='never closed>", "a"),
        ("a<script>never closed", "a"),
        ("a<!-- never closed", "a"),
        ("a&#" + "9" * 5000 + ";", "a&#" + "9" * 5000 + ";"),
        ("&#0;&#xD800;", "\ufffd\ufffd"),
    ],
)
def test_the_text_of_html_is_read_without_its_tags(markup: str, text: str) -> None:
    assert html(markup) == text


def test_html_is_read_as_far_as_100000_tags() -> None:
    assert html("<b>" * 99_999 + "seen<i>" + "unseen") == "seen"


PLAIN = "Content-Type: text/plain\r\n\r\nplain"
BLANK = "Content-Type: text/plain\r\n\r\n \r\n"
HTML = "Content-Type: text/html\r\n\r\n<p>html"
ICS = "Content-Type: text/calendar\r\n\r\nics"
PNG = "Content-Type: image/png\r\n\r\nAAAA"
FILE = "Content-Type: text/plain\r\nContent-Disposition: Attachment; filename=x\r\n\r\nfile"
MAIL = "Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\nembedded"


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        ([PLAIN, HTML], "plain"),
        ([HTML, PLAIN], "plain"),
        ([FILE, HTML], "html"),
        ([BLANK, HTML], "html"),
        ([BLANK, PNG], " \n"),
        ([ICS, HTML], "html"),
        ([ICS], "ics"),
        ([MAIL, HTML], "html"),
        ([PNG, MAIL], "embedded"),
        ([PNG, FILE], None),
        (["\r\nno header"], "no header"),
        ([PLAIN, PLAIN.replace("plain\r\n\r\nplain", "plain\r\n\r\nsecond")], "plain"),
    ],
)
def test_of_several_parts_the_one_a_person_reads_is_chosen(
    parts: list[str], text: str | None
) -> None:
    assert multipart(*parts) == text


def test_an_embedded_mail_that_is_encoded_is_left_alone() -> None:
    encoded = MAIL.replace("rfc822", "rfc822\r\nContent-Transfer-Encoding: base64")
    assert multipart(encoded) is None


def test_the_parts_of_a_digest_are_mails() -> None:
    assert multipart("\r\nSubject: one\r\n\r\nfirst", kind="digest") == "first"


def test_a_multipart_in_a_multipart_ends_where_the_outer_one_goes_on() -> None:
    inner = "Content-Type: multipart/alternative; boundary=in\r\n\r\n--in\r\n" + HTML
    assert multipart(inner, PLAIN) == "plain"
    assert multipart(PNG, inner) == "html"


def test_what_follows_the_last_delimiter_is_no_part() -> None:
    text = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b--\r\n--b\r\n" + PLAIN
    assert extract(text.encode()).body is None


def test_a_multipart_without_its_delimiters_is_read_as_text() -> None:
    assert textOf(b"text", "multipart/mixed") == "text"
    assert textOf(b"text", "multipart/mixed; boundary=b") == "text"


def test_a_multipart_that_repeats_the_boundary_around_it_is_no_part_of_its_own() -> None:
    assert multipart('Content-Type: multipart/mixed; boundary="=_b"\r\n\r\n', PLAIN) == "plain"


# Budgets


def test_the_201st_part_is_not_read() -> None:
    assert multipart(*[PNG] * 199, PLAIN) == "plain"
    assert multipart(*[PNG] * 200, PLAIN) is None


def nested(depth: int) -> bytes:
    opening = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (level, level)
        for level in range(depth)
    )
    return opening + b"\r\ndeep"


def test_parts_are_read_30_deep() -> None:
    assert extract(nested(30)).body == "deep"
    assert extract(nested(31)).body is None


def test_embedded_mails_are_read_30_deep() -> None:
    assert extract(b"Content-Type: message/rfc822\r\n\r\n" * 30 + b"\r\ndeep").body == "deep"
    assert extract(b"Content-Type: message/rfc822\r\n\r\n" * 31 + b"\r\ndeep").body is None


def test_a_header_is_read_as_far_as_256_kib_and_the_body_found_behind_it() -> None:
    filler = b"X-Filler: x\r\n"
    inside, beyond = filler * 20_000, filler * 23_000  # 240,000 and 276,000 octets with LF
    assert extract(inside + b"Subject: x\r\n\r\nbody") == Summary(subject="x", body="body")
    assert extract(beyond + b"Subject: x\r\n\r\nbody") == Summary(body="body")
    assert extract(beyond) == Summary(body="")


def test_nothing_behind_the_first_mib_is_read() -> None:
    filler = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"x" * MIB
    assert extract(filler + b"\r\n--b\r\n\r\nseen?").body == "x" * 65_536


HOSTILE = {
    "a subject of 1 MiB": b"Subject: " + b"a" * MIB,
    "=?": b"Subject: " + b"=?" * (MIB // 2),
    "=?a?q?": b"Subject: " + b"=?a?q?" * (MIB // 6),
    "encoded words": b"Subject: " + b"=?utf-8?q?b?= " * (MIB // 14),
    "unknown charsets": b"Subject: " + b"".join(b"=?x%d?q?b?= " % i for i in range(70_000)),
    "header lines": b"a:\r\n" * (MIB // 4),
    "lines without a colon": b"a:b\r\n" + b"aaa\r\n" * (MIB // 5),
    "strays": b"a:b\r\n" + b"aa a\r\nb:c\r\n" * (MIB // 11),
    "continuations": b"a:b\r\nzz\r\n" + b" \r\n" * (MIB // 3),
    "spaces before no colon": b"a" + b" " * MIB,
    "semicolons": b"Content-Type: text/plain" + b";" * MIB,
    "charsets": b"Content-Type: text/plain" + b"; charset" * (MIB // 9),
    "boundaries": b"Content-Type: multipart/mixed" + b'; boundary="' * 20_000 + b"\r\n\r\n",
    "1,000 deep": nested(1000) + b"\r\nx" * 300_000,
    "similar boundaries": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%s\r\n\r\n--b%s\r\n" % (b"a" * i, b"a" * i)
        for i in range(30)
    )
    + (b"\r\n--b" + b"a" * 31) * 30_000,
    "lines of --": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--\n" * (MIB // 3),
    "delimiter of spaces": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--" + b" " * MIB,
    "mails in mails": b"Content-Type: message/rfc822\r\n\r\n" * (MIB // 32),
    "HTML parts": b"Content-Type: multipart/mixed; boundary=b\r\n\r\n"
    + (b"--b\r\nContent-Type: text/html\r\n\r\n" + b"<p>" * 1700 + b"\r\n") * 200,
    "base64": b"Content-Transfer-Encoding: base64\r\n\r\n" + b"YWJj" * (MIB // 4),
    "base64 of junk": b"Content-Transfer-Encoding: base64\r\n\r\nY" + b"!\xff" * (MIB // 2),
    "quoted-printable": b"Content-Transfer-Encoding: quoted-printable\r\n\r\n" + b"=" * MIB,
    "uuencode": b"Content-Transfer-Encoding: uuencode\r\n\r\nbegin 644 x\r\n" + b"#86)C\r\n" * (MIB // 7),
    "comments in a date": b"Date: " + b"(" * MIB,
    "words in a date": b"Date: " + b" a" * (MIB // 2),
    "no line end": b"a" * MIB,
    "NUL": b"\0" * MIB,
    "CR": b"\r" * MIB,
    "LF": b"\n" * MIB,
    "octets over 127": b"\xff" * MIB,
    **{
        f"HTML of {markup[:12]}": b"Content-Type: text/html\r\n\r\n" + markup.encode() * (MIB // len(markup))
        for markup in (
            "<", "<b>", "<a ", "<!--", "</", "<a b='", '<a b=">">', "<script>", "<style></style>",
            "&a", "&#1", "&notit;", "= ", " <b>", "&#10;", "&#" + "9" * 4200 + ";",
        )
    },
    **{
        f"HTML in {charset}": b"Content-Type: text/html; charset=%s\r\n\r\n" % charset.encode()
        + b"\x81\xff+-" * (MIB // 4)
        for charset in ("cp1252", "utf-7", "utf-16", "iso-2022-jp", "punycode", "idna", "zlib")
    },
}  # fmt: skip


class TooMuchWork(Exception):
    """More lines of Python were run than 1 MiB can need."""


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_content_costs_a_bounded_amount_of_work(kind: str) -> None:
    """The lines of Python run are counted; what they do in C is a few passes of milliseconds,
    where one that is quadratic takes minutes."""
    left = 3_000_000

    def trace(frame: object, event: str, argument: object) -> object:
        nonlocal left
        left -= 1
        if left < 0:
            raise TooMuchWork(kind)
        return trace

    previous = sys.gettrace()
    if previous is None:  # not while coverage counts the lines
        sys.settrace(trace)  # type: ignore[arg-type]
    begin = time.thread_time()
    try:
        summary = extract(HOSTILE[kind])
    finally:
        sys.settrace(previous)
    assert time.thread_time() - begin < 20
    assertStorable(summary)


def test_unknown_charsets_are_not_remembered() -> None:
    before = len(encodings._cache)  # type: ignore[attr-defined]
    subject("".join(f"=?x-unheard-of-{number}?q?a?= " for number in range(200)))
    assert len(encodings._cache) == before  # type: ignore[attr-defined]


# Any octets


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400))
@example(b"Content-Type: text/html; charset=utf-7\n\n+2AA-")
def test_random_octets_do_no_harm(octets: bytes) -> None:
    summary = extract(octets)
    assertStorable(summary)
    assert extractPlain(octets) in (None, summary)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(sorted(CORPUS)),
    st.lists(
        st.tuples(
            st.floats(0, 1),
            st.integers(0, 40),
            st.one_of(
                st.binary(max_size=8),
                st.sampled_from(
                    [b"\r\n\r\n", b"=?utf-8?b?", b"?=", b"--", b"\0", b"Content-Type: text/html\r\n",
                     b"Content-Type: message/rfc822\r\n\r\n", b"charset=utf-7", b"Date: ", b"<!--"]
                ),
            ),
        ),
        min_size=1,
        max_size=5,
    ),
)  # fmt: skip
def test_mutated_mail_does_no_harm(name: str, mutations: list[tuple[float, int, bytes]]) -> None:
    octets = CORPUS[name][:20_000]
    for place, dropped, inserted in mutations:
        at = int(place * len(octets))
        octets = octets[:at] + inserted + octets[at + dropped :]
    summary = extract(octets)
    assertStorable(summary)
    assert extractPlain(octets) in (None, summary)


# The quick path

FIELDS = st.sampled_from(
    [b"Subject: a", b"Subject: =?utf-8?q?a?=", b"Subject: gr\xc3\xbcn", b"Subject: gr\xfcn",
     b"subject:a\r\n b \r\n\t", b"SUBJECT \t:\ta\x0b", b"Subject: \xa0\x1ca\x85", b"Subject:",
     b"Subject: nul \0", b"Subject: cr \r Date: x", b"Subject: lf \n Date: x", b"Subjects: a",
     b"Subject: " + b"a" * 1001, b"Subject\xa0: a", b"X-Subject: a", b"\rSubject: a",
     b"Date: Sun, 22 Nov 2026 14:00:00 +0100", b"Date: never", b"Date: 1 Jan 26 1:1 EST",
     b"Date: Sun, 22 Nov 2026\r\n 14:00:00 +0000 (UTC)", b"date: 1 Jan 2026 01:01:01 -0000 \xe9",
     b"Message-ID: <a@b>", b"Message-Id:\r\n <c@d>", b"Message-ID:  ", b"MESSAGE-ID: <\xe9>",
     b"Content-Type: text/plain", b"Content-Type: text/plain; charset=UTF-8", b"content-type:x",
     b"Content-Type: text/plain;\r\n\tformat=flowed;\r\n\tcharset=\"us-ascii\"",
     b"Content-Type: text/plain; charset=koi8-r", b"Content-Type: text/html", b"Content-Type:",
     b"Content-Type: multipart/mixed; boundary=b", b"Content-Transfer-Encoding: 8BIT",
     b"Content-Transfer-Encoding: base64", b"Content-Disposition: attachment", b"X: y\r\n z",
     b"Content-Disposition : inline", b"Content-Transfer-Encoding: binary\r\n ",
     b"Received: from a\r\n\tby b; Sun", b"no field", b"From x", b"--b", b"--b: c", b"-b: c",
     b" folded", b"", b":", b"a b: c", b"gr\xfcn: x"]
)  # fmt: skip


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(FIELDS, max_size=9),
    st.sampled_from([b"\r\n"] * 5 + [b"\n", b"\r", b"\r\r\n"]),
    st.one_of(st.binary(max_size=60), st.sampled_from([b"a\rb\nc\r\n\r", b"\xef\xbb\xbfx", b"\0"])),
)
def test_where_the_quick_path_answers_it_answers_as_the_long_one(
    fields: list[bytes], lineEnd: bytes, body: bytes
) -> None:
    octets = b"".join(field + lineEnd for field in fields) + b"\r\n" + body
    assert extractPlain(octets) in (None, extract(octets))


PLAIN_MAIL = (
    b"Subject: hello\r\nDate: Sun, 22 Nov 2026 14:00:00 +0100\r\nMessage-ID: <a@b>\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    b"gr\xc3\xbcn\r\n"
)


def test_plain_small_mail_takes_the_quick_path() -> None:
    assert extractPlain(PLAIN_MAIL) == Summary(
        subject="hello", date=utc(2026, 11, 22, 13), body="grün\n", messageId="<a@b>"
    )
    assert extractPlain(b"Subject: no MIME\r\n\r\nx") == Summary(subject="no MIME", body="x")
    assert extractPlain(b"Subject: gr\xfcn\r\n\r\nx") == Summary(subject="grün", body="x")


def test_the_plain_mail_of_the_corpus_takes_the_quick_path() -> None:
    assert sum(extractPlain(octets) is not None for octets in CORPUS.values()) == 33


@pytest.mark.parametrize(
    "octets",
    [
        PLAIN_MAIL.replace(b"hello", b"=?utf-8?q?hello?="),
        PLAIN_MAIL.replace(b"8bit", b"base64"),
        PLAIN_MAIL.replace(b"text/plain", b"text/html"),
        PLAIN_MAIL.replace(b"utf-8", b"iso-8859-1"),
        b"Content-Disposition: inline\r\n" + PLAIN_MAIL,
        b"X-Filler: x\r\n" * 1000 + PLAIN_MAIL,
        PLAIN_MAIL + b"x" * 65_536,
        b"no header",
    ],
)
def test_anything_else_takes_the_long_one(octets: bytes) -> None:
    assert extractPlain(octets) is None


# The first look at a large message

FILLER = b"0123456789" * 7 + b"\r\n"
ATTACHMENT = b"Content-Type: application/pdf\r\nContent-Transfer-Encoding: base64\r\n\r\n"
MIXED = (
    b"Subject: two parts\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n"
    b"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\n\r\ngr\xfcn\r\n--b\r\n" + ATTACHMENT
)


@pytest.mark.parametrize(
    ("begins", "body"),
    [
        (MIXED, "grün"),
        (PLAIN_MAIL.replace(b"gr\xc3\xbcn", b"green"), "green\n"),
        (b"Subject: a file\r\n" + ATTACHMENT, None),
        (MIXED.replace(b"multipart/mixed", b"multipart/alternative"), "grün"),
    ],
    ids=["mixed", "text", "attachment", "alternative"],
)
def test_the_beginning_of_most_large_mail_tells_all(begins: bytes, body: str | None) -> None:
    octets = begins + FILLER * 10_000 + b"--b--\r\n"
    summary = extractFirst(octets[:FIRST_LOOK])
    assert summary is not None
    assert summary == extract(octets)
    assert (summary.body or "")[: len(body or "")] == (body or "")
    assert (summary.body is None) == (body is None)


@pytest.mark.parametrize(
    "begins",
    [
        b"X-Filler: x\r\n" * 10_000 + PLAIN_MAIL,
        b"X-Filler: x\r\n\ty",
        PLAIN_MAIL,  # UTF-8
        PLAIN_MAIL.replace(b"8bit", b"base64"),
        PLAIN_MAIL.replace(b"text/plain", b"text/html"),
        MIXED.replace(b"gr\xfcn", b" \r\n"),
        MIXED.replace(b"text/plain", b"text/html"),
        MIXED.replace(b"gr\xfcn\r\n--b\r\n" + ATTACHMENT, b""),
        MIXED.replace(b"--b\r\n", b""),
        b"Content-Type: message/rfc822\r\n\r\n" + PLAIN_MAIL,
        b"Content-Type: text/calendar\r\n\r\n",
    ],
)
def test_where_the_beginning_does_not_tell_more_is_read(begins: bytes) -> None:
    assert extractFirst((begins + FILLER * 2000)[:FIRST_LOOK]) is None


@settings(max_examples=400, deadline=None)
@given(
    st.lists(FIELDS, max_size=5),
    st.lists(
        st.sampled_from(
            [b"--b", b"--b--", b"--c", b"Content-Type: text/plain\r\n", b"text", b"", b"gr\xfcn",
             b"Content-Type: text/html\r\n", b"Content-Type: multipart/mixed; boundary=c\r\n",
             b"Content-Type: message/rfc822\r\n", ATTACHMENT, FILLER * 1000]
        ),
        max_size=12,
    ),
    st.integers(0, 90_000),
)  # fmt: skip
def test_where_the_first_look_answers_it_answers_as_the_long_one(
    fields: list[bytes], lines: list[bytes], look: int
) -> None:
    octets = b"\r\n".join([*fields, b"", *lines, b""])
    assert extractFirst(octets[: min(look, len(octets) // 2)]) in (None, extract(octets))


# The corpus itself


def test_the_corpus_has_crlf_where_its_files_have_lf() -> None:
    assert crlf(b"a\nb\r\nc\rd\n") == b"a\r\nb\r\nc\rd\r\n"
    assert len(CORPUS) == 295
    assert CORPUS["enmime/parts/textplain.raw"].count(b"\r\n") == CORPUS[
        "enmime/parts/textplain.raw"
    ].count(b"\n")
