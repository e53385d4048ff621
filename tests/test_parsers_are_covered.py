"""Every module that takes apart what others wrote has a property test, or a reason why what it reads is not hostile.

Found are the modules that call a primitive which takes bytes or text apart (`PRIMITIVES`) or give pickle a reader of
their own; a new one fails here until it stands in one of the two tables. Parsers that need no such primitive are listed
too, and held to their tests, but would not be found.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PRIMITIVES = frozenset(
    """
    json.loads json.load tomllib.load tomllib.loads ast.parse ast.literal_eval pickle.load pickle.loads struct.unpack
    base64.b64decode quopri.decodestring gzip.open email.header.decode_header codecs.escape_decode datetime.strptime
    datetime.fromisoformat time.strptime email.utils.parseaddr email.utils.parsedate_tz email.utils.getaddresses
    int.from_bytes kind.model_validate Settings.model_validate _PREFIX.unpack _UCRED.unpack _PARSER.parsebytes
    """.split()
)

_METADATA = "pickles/test_any_metadata.py::test_entry_with_any_metadata_is_used_to_the_end_or_refused_with_a_reason"
_BYTES = "pickles/test_any_bytes.py::test_damaged_entries_give_a_value_or_a_reason"
_ENTRY = "compose/test_mailman2_any_entry.py::test_readable_entry_is_composed_or_refused_with_a_reason"
_FRAMES = "compose/test_mailman3_frames.py::test_any_octets_are_a_prefix_within_bounds_or_an_error"
_LOG_LINE = "mta_log/test_answer.py::test_any_octets_are_lines_or_passed_over"

COVERED = {
    "pickles/prescan": _BYTES,
    "pickles/machine": _BYTES,
    "pickles/shapes": "pickles/test_shapes.py::test_damaged_pickles_of_a_known_shape_are_decided_alike",
    "pickles/opcodes": _BYTES,
    "pickles/restricted": _BYTES,
    "pickles/standins": _BYTES,
    "pickles/narrowed": _METADATA,
    "queuedir/content": _BYTES,
    "queuedir/plaintext": _BYTES,
    "queuedir/entry": _METADATA,
    "queuedir/filebase": "queuedir/test_filebase.py::"
    "test_any_name_gives_a_file_or_a_reason_and_the_runner_dies_where_we_say",
    "duplicates/canonical": _METADATA,
    "duplicates/mail_facts": _METADATA,
    "feed/pick": _METADATA,
    "operate/showing": _METADATA,
    "compose/mailman2_part": _ENTRY,
    "compose/mailman2_flatten": _ENTRY,
    "compose/mailman2_envelope": _ENTRY,
    "compose/mailman2_site": "pickles/test_any_metadata.py::"
    "test_config_pck_of_any_values_gives_settings_that_compose_or_a_reason",
    "compose/mm_cfg": "compose/test_mm_cfg.py::test_any_text_gives_a_value_or_a_settings_error",
    "compose/coprocess/frames": _FRAMES,
    "control/requests": "control/test_any_request.py::test_any_json_is_done_or_refused_with_words",
    "control/messages/finish": "control/test_any_request.py::test_any_query_is_answered_or_refused_with_words",
    "text/quantities": "test_any_settings.py::test_any_rate_duration_or_size_is_a_number_in_bounds_or_a_value_error",
    "schedule/windows": "schedule/test_windows.py::test_any_text_is_a_window_within_the_week_or_a_mistake_in_words",
    "settings_file": "test_any_settings.py::test_any_values_are_settings_that_read_back_or_named_mistakes",
    "destinations/queue_listing": "destinations/test_queue_listing.py::"
    "test_any_listing_is_counted_to_the_last_recipient_or_refused",
    "destinations/kept_paces": "destinations/test_kept_paces.py::"
    "test_any_octets_are_paces_that_can_be_used_or_nothing_learnt",
    "feed/smtp_client": "feed/test_smtp_client.py::test_any_octets_give_the_same_answers_however_they_are_cut",
    "mta_log/mailman_smtp_log": "mta_log/test_mailman_smtp_log.py::test_any_lines_give_counts_within_what_was_tried",
    "feed/borne": "feed/test_borne.py::test_any_octets_are_read_or_are_nothing_known",
    "feed/recipient_limit": "feed/test_recipient_limit.py::test_octets_that_are_no_limit_are_none",
    "feed/session_limit": "feed/test_session_limit.py::test_octets_that_are_no_limit_are_none",
    "feed/outcome": "feed/test_outcome.py::test_any_code_and_text_give_a_printable_reply_or_a_value_error",
    "secret_files": "test_secret_files.py::test_server_that_repeats_the_password_in_any_form_of_auth_is_not_quoted",
    "mta_log/lines": _LOG_LINE,
}
"""Module to the property test that feeds it anything."""

TRUSTED = {
    "cli/times": "what the operator typed",
    "cli/check_measures": "what our own service answered",
    "control/client": "what our own service answered",
    "compose/coprocess/composing": "opens only what pickles/restricted let pass, by the same table of names",
    "demo/sink_session": "the demonstration's server, on loopback",
    "demo/tour": "what the demonstration's server wrote",
    "host_check/as_user": "what our own child found",
    "ledger/generation": "our own ledger; the queue's line is a pattern; held by tests/ledger/test_generation.py",
    "ledger/account": "our own ledger",
    "ledger/actions": "our own ledger, as step_as_text wrote it",
    "operate/undo_operator_state": "our own ledger, as it wrote it itself",
    "operate/journal": "our own ledger, as taking_back wrote it",
    "stages/reversible_failures": "our own ledger",
    "backlog/keys": "digests we have made ourselves",
    "start/build_in_use": "what setup.py wrote into the package",
    "ledger/columns": "our own ledger, checked for damage when it is opened",
}
"""Module to the reason why its input is trusted."""


def parsers() -> set[str]:
    """Modules that take apart what others wrote."""
    package = ROOT / "drainer"
    return {
        path.relative_to(package).with_suffix("").as_posix()
        for path in package.rglob("*.py")
        if any(map(_takes_apart, ast.walk(ast.parse(path.read_text("utf-8")))))
    }


def _takes_apart(node: ast.AST) -> bool:
    if isinstance(node, ast.ClassDef):
        return any(ast.unparse(base).endswith("Unpickler") for base in node.bases)
    return isinstance(node, ast.Call) and ast.unparse(node.func) in PRIMITIVES


@cache
def property_tests(file: str) -> frozenset[str]:
    """Names of the tests in a file that hypothesis feeds."""
    tree = ast.parse((ROOT / "tests" / file).read_text("utf-8"))
    return frozenset(
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and any(isinstance(mark, ast.Call) and ast.unparse(mark.func) == "given" for mark in node.decorator_list)
    )


def test_every_parser_has_a_property_test_or_a_reason() -> None:
    assert parsers() - COVERED.keys() - TRUSTED.keys() == set()


def test_tables_name_modules_that_are_there_once() -> None:
    assert COVERED.keys() & TRUSTED.keys() == set()
    assert [name for name in COVERED | TRUSTED if not (ROOT / "drainer" / f"{name}.py").is_file()] == []
    assert TRUSTED.keys() <= parsers()


@pytest.mark.parametrize("module", COVERED)
def test_property_test_named_for_a_parser_is_one(module: str) -> None:
    file, _, name = COVERED[module].partition("::")
    assert name in property_tests(file)
