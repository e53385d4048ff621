"""The MTA's listing of its queue, summed up by recipient domain."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drainer.destinations.queue_listing import (
    MOST_DOMAINS,
    MOST_REASONS,
    EximListing,
    PostfixListing,
    QueueByDomain,
    Reason,
    listing_of,
)
from drainer.errors import MtaError

SAMPLES = Path(__file__).parents[1] / "samples" / "mta_behind"
NOW_S = 1_796_047_905.0
PROVIDERS = ["gmail", "googlemail", "yahoo", "outlook", "grey", "full", "down"]


def postfix(*lines: str) -> QueueByDomain:
    listing = PostfixListing()
    for line in lines:
        listing.feed(line)
    return listing.value()


def exim(text: str) -> QueueByDomain:
    listing = EximListing(NOW_S)
    for line in text.split("\n"):
        listing.feed(line)
    return listing.value()


def message(*recipients: tuple[str, str | None], queue: str = "deferred", arrived: object = 1000) -> str:
    named = [{"address": address} | ({"delay_reason": reason} if reason else {}) for address, reason in recipients]
    return json.dumps({"queue_name": queue, "queue_id": "4F", "arrival_time": arrived, "recipients": named})


def test_genuine_postfix_listing_names_each_domain_and_the_replies_that_it_waits_for() -> None:
    lines = (SAMPLES / "postqueue.json").read_text().splitlines()
    queue = postfix(*lines)
    assert queue.messages == len(lines)
    assert sorted(queue.domains) == sorted(
        f"{name}.example" for name in PROVIDERS if f"{name}.example" in queue.domains
    )
    gmail = queue.domains["gmail.example"]
    assert gmail.queued == gmail.waiting == sum(reason.recipients for reason in gmail.reasons) > 0
    assert "421-4.7.28" in gmail.reasons[0].text
    assert gmail.oldest_s == min(json.loads(line)["arrival_time"] for line in lines if "@gmail.example" in line)


def test_genuine_exim_listing_counts_those_who_have_not_had_it() -> None:
    text = (SAMPLES / "exim-bp.txt").read_text()
    queue = exim(text)
    owed = [line.strip() for line in text.splitlines() if line.startswith(" " * 10)]
    assert sum(one.queued for one in queue.domains.values()) == len(owed)
    assert queue.messages == text.count(" <choir-bounces@")
    assert queue.domains["down.example"].queued == sum(address.endswith("@down.example") for address in owed)
    assert queue.domains["down.example"].oldest_s == NOW_S


def test_mail_on_hold_is_not_in_the_queue() -> None:
    assert postfix(message(("a@a.test", None), queue="hold")) == QueueByDomain()
    assert exim(" 2d  1.2K 1xY26b-0000S9-1T <> *** frozen ***\n          a@a.test\n\n") == QueueByDomain()
    assert exim("  1K 1xY26b-0000S9-1T\n    *** spool read error: Permission denied ***\n\n").messages == 1


def test_new_mail_is_queued_and_does_not_wait() -> None:
    queue = postfix(message(("A@Both.Test", None), ("b@both.test", "host x[1] said: 450 later"), queue="active"))
    both = queue.domains["both.test"]
    assert (both.queued, both.waiting, both.oldest_s) == (2, 1, 1000.0)
    assert both.reasons == (Reason("host x[1] said: 450 later", 1),)


def test_reasons_that_differ_in_host_and_queue_id_only_count_as_one() -> None:
    text = "host mx{}.test[192.0.2.{}] said: 421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating "
    told = text + "421-4.7.28 from your IP address. To protect our users, it is limited. {}abc.12 - gsmtp"
    queue = postfix(*(message(("a@gmail.test", told.format(n, n, n))) for n in range(30)))
    assert [reason.recipients for reason in queue.domains["gmail.test"].reasons] == [30]


def test_reasons_without_end_are_counted_together() -> None:
    queue = postfix(*(message(("a@a.test", f"reason {n}")) for n in range(3 * MOST_REASONS)))
    reasons = queue.domains["a.test"].reasons
    assert len(reasons) == MOST_REASONS + 1
    assert reasons[0] == Reason("", 2 * MOST_REASONS)


def test_domains_without_end_are_counted_together() -> None:
    queue = postfix(*(message((f"a@{n}.test", None)) for n in range(MOST_DOMAINS + 5)))
    assert (len(queue.domains), queue.others, queue.messages) == (MOST_DOMAINS, 5, MOST_DOMAINS + 5)


@pytest.mark.parametrize(
    "line", ["Mail queue is empty", "{}", "[]", "null", '{"queue_name"', '{"queue_name": 1}', "[" * 9999]
)
def test_other_output_is_an_error_and_not_an_empty_queue(line: str) -> None:
    with pytest.raises(MtaError, match="postqueue -j said"):
        postfix(line)
    with pytest.raises(MtaError, match="exim -bp said"):
        exim(line)


@pytest.mark.parametrize("moment", [True, "1000", -5, 1e300, None, float("inf")])
def test_moment_that_no_clock_shows_is_not_the_oldest(moment: object) -> None:
    queue = postfix(message(("a@a.test", None), arrived=moment))
    assert queue.domains["a.test"].oldest_s is None


TEXT = st.text(max_size=30)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
RECIPIENTS = st.lists(st.fixed_dictionaries({"address": TEXT}, optional={"delay_reason": TEXT}), max_size=4)
MESSAGES = st.fixed_dictionaries(
    {"queue_name": st.sampled_from(["active", "deferred", "hold"]), "arrival_time": st.integers() | ANYTHING,
     "recipients": RECIPIENTS | ANYTHING}
)  # fmt: skip


@given(st.lists(MESSAGES, max_size=5))
def test_any_listing_is_counted_to_the_last_recipient_or_refused(messages: list[dict[str, object]]) -> None:
    try:
        queue = postfix(*map(json.dumps, messages))
    except MtaError:
        return
    counted = [one for one in messages if one["queue_name"] != "hold"]
    recipients = [each for one in counted if isinstance(one["recipients"], list) for each in one["recipients"]]
    assert queue.messages == len(counted)
    assert sum(one.queued for one in queue.domains.values()) == len(recipients)
    for one in queue.domains.values():
        assert one.waiting == sum(reason.recipients for reason in one.reasons) <= one.queued


@given(st.sampled_from(["postfix", "exim"]), st.lists(st.text(max_size=60), max_size=8))
def test_any_lines_give_sums_or_an_error(kind: str, lines: list[str]) -> None:
    listing = listing_of("postfix" if kind == "postfix" else "exim", NOW_S)
    try:
        for line in lines:
            listing.feed(line)
    except MtaError:
        return
    assert listing.value().messages >= 0


AGES = st.sampled_from([" 0m", "25m", "90m", " 3h", "72h", " 4d", "120d"])
ADDRESSES = st.sampled_from(["a@a.test", '"odd name"@b.test', "D x@c.test", "<> *** frozen ***@d.test", "no-domain"])


@given(st.lists(st.tuples(AGES, st.booleans(), st.lists(st.tuples(st.booleans(), ADDRESSES), max_size=4)), max_size=5))
def test_exim_listing_counts_each_recipient_that_is_owed(mails: list[tuple[str, bool, list[tuple[bool, str]]]]) -> None:
    text = "".join(
        f"{age}  2.9K 1xY26b-0000S9-1T <a@b.test>{' *** frozen ***' * frozen}\n"
        + "".join(f"        {'D' if had else ' '} {address}\n" for had, address in recipients)
        + "\n"
        for age, frozen, recipients in mails
    )
    queue = exim(text)
    going = [recipients for _, frozen, recipients in mails if not frozen]
    assert queue.messages == len(going)
    owed = [address for recipients in going for had, address in recipients if not had]
    assert sum(one.queued for one in queue.domains.values()) == len(owed)
