"""Whatever a readable entry holds: it is composed, or refused with a ComposeError; nothing else comes out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.compose.mailman2 import bulk_decoration, compose_transactions
from drainer.compose.mailman2_site import ListSettings, SiteSettings
from drainer.errors import ComposeError
from drainer.pickles.standins import Charset, Header, Message
from drainer.queuedir.entry import Flavour, QueueEntry

_CHARACTERS = st.sampled_from('ab =?;,:"\\\n\r\t/%$@-é日\udce4\udcff\0')
_TEXT = st.text(_CHARACTERS, max_size=120)
_NAMES = st.sampled_from(
    ["To", "From", "Subject", "Content-Type", "Content-Transfer-Encoding", "MIME-Version", "X-Odd"]
)
_CHARSET_NAMES = st.sampled_from(
    ["us-ascii", "utf-8", "iso-8859-1", "euc-jp", "gb2312", "no-such", "8bit", "hex", "idna"]
)
_KINDS = st.sampled_from(
    ["text/plain", "text/plain; charset=utf-8; format=flowed", "text/plain; charset=hex", "multipart/mixed; boundary=B",
     "multipart/mixed", "message/rfc822", "message/delivery-status", "text/html", "x", 'text/plain; charset="\udce4"',
     "base64", "quoted-printable", "uue", "text/plain; charset=unicode_escape", "text/plain; charset=\0"]
)  # fmt: skip


def _charset(name: str, header_encoding: object) -> Charset:
    charset = Charset()
    codec = None if name == "us-ascii" else name
    charset.__setstate__(
        {"input_charset": name, "output_charset": name, "header_encoding": header_encoding, "body_encoding": None,
         "input_codec": codec, "output_codec": codec}
    )  # fmt: skip
    return charset


def _header(chunks: list[tuple[str, Charset]], first: object, later: object) -> Header:
    header = Header()
    header.__setstate__({"_chunks": chunks, "_firstlinelen": first, "_maxlinelen": later, "_continuation_ws": " "})
    return header


_ENCODINGS = st.sampled_from([None, 1, 2, 3, "x"])
_LENGTHS = st.sampled_from([None, 0, 1, 5, 68, 76, "x"])
_CHARSETS = st.builds(_charset, _CHARSET_NAMES, _ENCODINGS)
_HEADERS = st.builds(_header, st.lists(st.tuples(_TEXT, _CHARSETS), max_size=3), _LENGTHS, _LENGTHS)
_FIELDS = st.lists(st.tuples(_NAMES, _KINDS | _TEXT | _HEADERS | st.none()), max_size=5)


def _message(headers: object, payload: object, epilogue: object) -> Message:
    message = Message()
    message.__setstate__({"_headers": headers, "_payload": payload, "preamble": None, "epilogue": epilogue})
    return message


_LEAVES = st.builds(_message, _FIELDS, _TEXT | st.none() | st.integers(), _TEXT | st.none())
_MESSAGES = st.recursive(
    _LEAVES, lambda parts: st.builds(_message, _FIELDS, st.lists(parts | st.none(), max_size=3), _TEXT | st.none())
)
_ADDRESSES = st.lists(_TEXT | st.sampled_from(["a@b.example", "ann@x.example", "no-at"]), min_size=1, max_size=4)
_METADATA = st.fixed_dictionaries(
    {},
    optional={
        "verp": st.sampled_from([0, 1, True]),
        "personalize": st.sampled_from([0, 1]),
        "envsender": _TEXT | st.integers(),
        "undelivered": st.lists(_ADDRESSES, max_size=2) | st.integers(),
        "decoration-data": st.dictionaries(_TEXT | st.integers(), _TEXT | st.integers(), max_size=2) | st.none(),
        "add-dup-header": st.dictionaries(_TEXT, st.booleans(), max_size=2) | _TEXT,
        "isdigest": st.booleans(),
        "decorated": st.booleans(),
        "deliver_after": st.floats() | _TEXT,
    },
)
_LISTS = st.builds(
    ListSettings,
    st.just("kites"),
    real_name=_TEXT,
    host_name=st.just("lists.example.org"),
    description=_TEXT,
    msg_header=_TEXT,
    msg_footer=_TEXT | st.sampled_from(["%(user_name)s %(description)s\n", "$user_address\n", "%(real_name)5.3s"]),
    personalize=st.sampled_from([0, 1, 2]),
    preferred_language=st.sampled_from(["en", "de", "ru", "ja", "xx"]),
    use_dollar_strings=st.booleans(),
    members=st.just({"ann@x.example": 0}),
    passwords=st.just({"ann@x.example": 5}),
    usernames=st.dictionaries(st.just("ann@x.example"), _TEXT | st.integers()),
)


@given(_MESSAGES, _METADATA, _ADDRESSES, _LISTS)
def test_readable_entry_is_composed_or_refused_with_a_reason(
    message: Message, metadata: dict[str, object], recipients: list[str], settings: ListSettings
) -> None:
    site = SiteSettings()
    owed = tuple(dict.fromkeys(recipients))
    entry = QueueEntry("1+a", Flavour.MAILMAN2, "kites", owed, message, None, metadata, b"", 0)
    bulk_decoration(settings, site, entry)
    covered: list[str] = []
    try:
        for composed in compose_transactions(entry, settings, site, owed):
            covered.extend(composed.owed_for)
            assert composed.content.endswith(b"\r\n")
            assert len(composed.envelope.recipients) == len(composed.owed_for)
            assert not any(end in composed.envelope.reverse_path for end in "\r\n")
    except ComposeError as refused:
        assert refused.detail
        return
    assert len(covered) == len(set(covered))
    assert set(covered) <= set(owed)
    if not metadata.get("verp") and "undelivered" not in metadata:
        assert set(covered) == set(owed)


@pytest.mark.parametrize("limit", [1, 5])
def test_header_with_an_impossible_line_length_ends(limit: int) -> None:
    header = _header([("日本語" * 20, _charset("utf-8", 2))], limit, limit)
    entry = QueueEntry(
        "1+a",
        Flavour.MAILMAN2,
        "kites",
        ("a@b.example",),
        _message([("Subject", header)], "text\n", None),
        None,
        {},
        b"",
        0,
    )
    settings = ListSettings("kites", host_name="lists.example.org")
    with pytest.raises(ComposeError):
        list(compose_transactions(entry, settings, SiteSettings(), entry.recipients))
