"""Which test holds which rule of the wire contract: a rule without a test fails here.

The rules are named as they stand in the contract, its tables row by row; a dialogue is a file of
tests/dialogues, any other name is a test function.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent

RULES = {
    # Session rules
    "verbs in any case, trailing white space, leading space": "session-verbs",
    "a command line of 2,048 octets": "session-line-limit",
    "a longer line: one 500, bounded memory, the session goes on": (
        "test_ten_megabytes_are_one_500_and_no_memory test_in_one_piece_too"
        " test_between_the_limit_of_a_command_and_of_any_line"
        " test_any_complete_command_starts_the_time_anew"
    ),
    "AUTH has 12,288 octets": "test_the_response_may_be_as_long_as_the_rfc_allows",
    "bare LF, NUL, bare CR, 8-bit: 500": "session-forbidden-octets",
    "8-bit in MAIL and RCPT: 553 without SMTPUTF8": "session-8-bit-paths",
    "replies in order, also while the database is asked": "session-pipelining data-commit",
    "never closed silently": (
        "test_a_policy_that_breaks_at_connect_is_421_never_a_silent_close"
        " test_what_cannot_be_closed_by_halves_is_closed"
    ),
    "idle": "session-idle test_ten_minutes_and_no_more test_half_a_command_does_not",
    "idle within DATA": (
        "test_within_data_the_time_counts_between_octets_up_to_the_first_minute"
        " test_a_transfer_slower_than_100_octets_a_second_is_cut_after_a_minute"
    ),
    "a client that does not read": "test_it_is_not_read_either_and_runs_into_the_limit",
    "the 21st error": "session-errors session-errors-forgiven",
    "refused recipients": (
        "session-refused-recipients test_a_thousand_refused_recipients_and_no_more"
    ),
    "too many connections": (
        "test_over_the_limit_it_is_421_in_place_of_the_greeting"
        " test_each_client_address_has_a_limit_of_its_own"
    ),
    "the database is unavailable": (
        "session-database-down session-database-down-vrfy session-database-down-expn"
        " data-unavailable test_a_directory_that_is_down_is_421_and_closed"
    ),
    "out of room": "data-out-of-room test_out_of_room_while_it_comes_is_452_at_the_end",
    "shutting down": (
        "session-shutdown session-shutdown-in-data"
        " test_a_message_whose_end_has_come_gets_its_true_answer_first"
    ),
    # Commands
    "HELO": "helo helo-literal",
    "EHLO and its lines": "ehlo session-verbs test_limits_are_told",
    "LHLO": "lmtp helo-literal",
    "MAIL: path": "mail-path mail-lengths",
    "MAIL: parameters": "mail-parameters dsn test_size test_body test_dsn_at_mail",
    "MAIL: 530, 553 5.7.1": (
        "test_a_submission_needs_a_login test_who_logged_in_writes_under_its_own_names_alone"
    ),
    "RCPT": "rcpt rcpt-alias-loop dsn test_dsn_at_rcpt",
    "RCPT: the 101st": "rcpt-too-many",
    "RCPT: relay denied": "test_any_other_is_denied test_a_listed_client_may_relay",
    "DATA": "data-sequence",
    "BDAT": "bdat bdat-wrong bdat-binarymime bdat-after-data",
    "RSET, NOOP, QUIT": "rset-noop-quit quit-at-once",
    "VRFY, EXPN, HELP, the 502 verbs": "vrfy-expn-help vrfy-expn-off",
    "STARTTLS": (
        "test_starttls_is_refused_in_its_order test_plaintext_behind_starttls_is_never_obeyed"
        " test_nothing_learnt_before_is_known_afterwards"
    ),
    "AUTH": (
        "test_refusals_come_in_their_order"
        " test_in_clear_it_is_offered_on_loopback_alone_where_the_operator_said_so"
        " test_a_wrong_password_is_said_after_a_second_and_counts"
        " test_the_51st_try_of_one_address_is_454_and_others_are_not_locked_out"
    ),
    "anything else": "session-verbs",
    "every verb in every State": (
        "test_a_command_in_each_state test_a_command_in_each_state_of_lmtp"
        " test_where_nothing_is_allowed_nothing_is_answered"
    ),
    # The data
    "only CRLF.CRLF ends the data": "data-dots data-not-the-end data-bare-newlines-accepted",
    "a line of 1,000 octets": "data-1000-octets data-long-line data-no-line-limit",
    "bare CR or LF": "data-not-the-end data-bare-newlines-accepted",
    "552 before 550 before 500": "data-faults-in-order",
    "over the size limit": "data-too-big",
    "8-bit octets as they came": "data-8-bit",
    "committed, and only then 250": (
        "data-commit test_250_comes_after_the_commit_and_nobody_else_waits"
        " test_no_content_is_answered_250_before_its_commit"
    ),
    "LMTP: a reply for each recipient": "lmtp lmtp-refused lmtp-unavailable bdat-lmtp",
    "extraction decides nothing": ("test_no_fault_of_extraction_decides_whether_mail_is_kept"),
    "the trace": (
        "test_it_is_what_the_rfc_says_to_the_letter test_for_is_there_for_one_recipient_alone"
        " test_a_submission_gets_the_date_and_message_id_it_lacks"
    ),
    # Who may receive
    "a sink": "sink",
    "rows of recipients": (
        "test_a_recipient_has_a_row_for_each_mailbox_and_one_where_there_is_none"
        " test_the_same_forward_path_twice_leaves_one_row_but_is_owed_two_replies"
        " test_an_address_elsewhere_is_queued_once_whoever_it_comes_from"
    ),
}


@pytest.fixture(scope="module")
def existing() -> set[str]:
    functions = {
        name
        for file in TESTS.glob("**/test_*.py")
        if file != Path(__file__)
        for name in re.findall(r"def (test_\w+)", file.read_text("utf-8"))
    }
    return functions | {dialogue.stem for dialogue in (TESTS / "dialogues").glob("*.txt")}


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_the_tests_it_names(rule: str, existing: set[str]) -> None:
    assert set(RULES[rule].split()) <= existing


def test_no_dialogue_is_about_no_rule() -> None:
    named = {name for names in RULES.values() for name in names.split()}
    assert {dialogue.stem for dialogue in (TESTS / "dialogues").glob("*.txt")} <= named
