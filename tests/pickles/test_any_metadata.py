"""Metadata of any type and depth at every key we read: the entry is used to the end, or refused with an EntryError."""

from __future__ import annotations

import io
import pickle
from datetime import datetime, timedelta, timezone
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from drainer.compose.mailman2 import bulk_decoration, compose_transactions
from drainer.compose.mailman2_site import ListSettings, SiteSettings, list_settings
from drainer.control.replies import json_reply
from drainer.duplicates.decoration import Decoration
from drainer.duplicates.summary import summarise
from drainer.errors import EntryError, ListConfigUnreadable
from drainer.feed.pick import deliver_after_s
from drainer.operate.showing import metadata_as_json
from drainer.pickles.restricted import load_one, load_pair
from drainer.queuedir.entry import QueueEntry, entry_from_pickles
from drainer.queuedir.narrow import with_recipients
from tests.pickles.samples import path2, path3

_SITE = SiteSettings()
_LIST = ListSettings("kites", host_name="lists.example.org", msg_footer="%(user_address)s\n", personalize=1)
_MESSAGES = [
    raw[: load_pair(raw).message_bytes]
    for raw in (path2("ascii_plain").read_bytes(), path3("ascii_plain").read_bytes(), path2("plaintext_entry").read_bytes())
]  # fmt: skip
_KEYS = st.sampled_from(
    "recips recipients undelivered listname listid received_time version _parsemsg verp personalize deliver_until "
    "deliver_after decorated nodecorate envsender sender original_sender original_subject stripped_subject origsubj "
    "add-dup-header decoration-data isdigest toowner tolist to_list to_owner lang whichq filebase _bak_count "
    "last_recip_count pipeline rejection_notice x".split()
)
_HUGE = st.sampled_from([10**400, -(10**400), 2**63, 1e308, -1e308, float("nan"), float("inf"), -float("inf"), 2**31])
_TEXTS = st.text(max_size=20) | st.sampled_from(
    ["\udcff@x", "a@b.example", "é@x", "a\r\nRCPT TO:<b@c>@d", "\0", "@", ""]
)
_ATOMS = (
    st.none() | st.booleans() | st.integers() | st.floats() | _HUGE | _TEXTS | st.binary(max_size=12)
    | st.datetimes() | st.datetimes(timezones=st.just(timezone(timedelta(hours=2))))
)  # fmt: skip
_MEMBERS = st.text(max_size=8) | st.binary(max_size=8)
_VALUES = st.recursive(
    _ATOMS | st.sets(_MEMBERS, max_size=4) | st.frozensets(_MEMBERS, max_size=4) | st.lists(_TEXTS, max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=8) | st.integers() | st.none(), inner, max_size=4)
    ),
    max_leaves=12,
)
_ALSO = (
    "received_time deliver_after verp envsender undelivered decoration-data add-dup-header original_sender "
    "stripped_subject personalize version"
).split()
_ADDRESSED = {"listname": st.just("kites"), "recips": st.lists(_TEXTS, min_size=1, max_size=5)}
_METADATA = st.dictionaries(_KEYS | st.integers() | st.binary(max_size=4), _VALUES, max_size=7) | st.fixed_dictionaries(
    _ADDRESSED, optional=dict.fromkeys(_ALSO, _VALUES)
)


class _AsMailman(pickle._Pickler):
    """Python's own pickler, which makes LONG4 of a huge number where Mailman never has one: that is refused."""


def _pickled(value: object, protocol: int) -> bytes:
    stream = io.BytesIO()
    _AsMailman(stream, protocol, fix_imports=True).dump(value)
    return stream.getvalue()


def _used_to_the_end(entry: QueueEntry) -> None:
    """Whatever the service does with an entry that it could read."""
    for decoration in (None, Decoration("head\n", "foot\n")):
        summary = summarise(entry, decoration)
        assert summary.filebase == entry.filebase
        assert summary.when_s == summary.when_s
    json_reply(metadata_as_json(entry.metadata))
    try:
        assert deliver_after_s(entry.metadata) >= 0
        bulk_decoration(_LIST, _SITE, entry)
        covered = [who for made in compose_transactions(entry, _LIST, _SITE, entry.recipients) for who in made.owed_for]
        assert len(covered) == len(set(covered)) and set(covered) <= set(entry.recipients)
    except EntryError as refused:
        assert refused.detail
    if entry.recipients:
        keep = entry.recipients[::2]
        try:
            narrowed = with_recipients(entry, keep)
        except EntryError as refused:
            assert refused.detail
        else:
            again = entry_from_pickles(entry.filebase, narrowed, load_pair(narrowed))
            assert set(again.recipients) == set(keep)


@settings(deadline=None, max_examples=120)
@given(st.sampled_from(_MESSAGES), _METADATA, st.integers(0, 5))
@example(_MESSAGES[0], {"listname": "k", "recips": ["a@b.c"], "deliver_after": 10**400}, 2)
@example(_MESSAGES[0], {"listname": "k", "recips": ["a@b.c"], "deliver_after": float("inf")}, 2)
@example(_MESSAGES[1], {"listid": "k", "recipients": ["a@b.c"], "deliver_after": datetime(1, 1, 1)}, 3)
@example(_MESSAGES[1], {"listid": "k", "recipients": ["a@b.c"], "deliver_after": datetime(9999, 12, 31, 23)}, 3)
@example(_MESSAGES[0], {"listname": "k", "recips": ["a@b.c"], "received_time": float("nan")}, 1)
def test_entry_with_any_metadata_is_used_to_the_end_or_refused_with_a_reason(
    message: bytes, metadata: dict[Any, Any], protocol: int
) -> None:
    raw = message + _pickled(metadata, protocol)
    try:
        entry = entry_from_pickles("1700000000.5+ab", raw, load_pair(raw))
    except EntryError as refused:
        assert str(refused).startswith(refused.reason)
        return
    _used_to_the_end(entry)


_WHOLE_CONFIG: dict[Any, Any] = {
    **dict.fromkeys("host_name real_name web_page_url description info msg_header msg_footer".split(), "%(user_name)s"),
    "preferred_language": "en",
    "available_languages": ["en"],
    **{name: {"a@b.example": 0} for name in "members digest_members language usernames passwords".split()},
}
_CONFIG_KEYS = st.sampled_from(
    "real_name host_name web_page_url description info msg_header msg_footer personalize include_sender_header "
    "preferred_language available_languages use_dollar_strings members digest_members language usernames passwords".split()
)


@settings(deadline=None, max_examples=60)
@given(st.dictionaries(_CONFIG_KEYS, _VALUES, max_size=8) | _VALUES, st.sampled_from(["a@b.example", "é@x.org"]))
@example({"host_name": "h", "personalize": float("inf")}, "a@b.example")
@example({"host_name": "h", "personalize": float("nan")}, "a@b.example")
def test_config_pck_of_any_values_gives_settings_that_compose_or_a_reason(config: object, recipient: str) -> None:
    if isinstance(config, dict):
        config = _WHOLE_CONFIG | config
    try:
        found = list_settings("kites", load_one(_pickled(config, 2)))
    except EntryError as refused:
        assert isinstance(refused, ListConfigUnreadable) or refused.detail
        return
    raw = _MESSAGES[0] + _pickled({"listname": "kites", "recips": [recipient], "verp": 1}, 2)
    _with_settings(entry_from_pickles("1.5+ab", raw, load_pair(raw)), found)


def _with_settings(entry: QueueEntry, found: ListSettings) -> None:
    try:
        bulk_decoration(found, _SITE, entry)
        list(compose_transactions(entry, found, _SITE, entry.recipients))
    except EntryError as refused:
        assert refused.detail
