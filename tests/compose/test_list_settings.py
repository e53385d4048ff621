"""A Mailman 2.1 list's settings, read from genuine and from damaged files."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import pytest

from drainer.clock import StoppedClock
from drainer.compose.list_settings import LOOKED_AT_EVERY_S, ListSettingsStore, extended_lists
from drainer.compose.mailman2_site import SiteSettings
from drainer.errors import ListConfigUnreadable, NoSuchList
from tests.compose.mailman2_samples import SAMPLES

_GENUINE = SAMPLES / "lists"

_EMPTY_LIST: dict[str, object] = {
    "host_name": "lists.example.org",
    **dict.fromkeys("real_name web_page_url description info msg_header msg_footer".split(), ""),
    "preferred_language": "en",
    "available_languages": [],
    **{name: {} for name in "members digest_members language usernames passwords".split()},
}


@pytest.fixture
def lists_dir(tmp_path: Path) -> Path:
    copy = tmp_path / "lists"
    shutil.copytree(_GENUINE, copy)
    return copy


def _write_config(lists_dir: Path, name: str, **values: object) -> Path:
    file = lists_dir / name / "config.pck"
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps({**_EMPTY_LIST, **values}, protocol=1))
    return file


def test_genuine_lists_have_the_settings_delivery_needs() -> None:
    store = ListSettingsStore(_GENUINE)
    orchard = store.get("orchard")
    assert (orchard.personalize, orchard.host_name, orchard.real_name) == (2, "lists.example.org", "Orchard")
    assert store.get("quietnews").include_sender_header is False
    assert store.get("werkstatt").preferred_language == "de"
    assert len(store.get("bigpost").members) == 1200
    assert store.get("tidepool").msg_footer.strip() == ""


def test_member_has_language_name_and_address_as_written() -> None:
    store, site = ListSettingsStore(_GENUINE), SiteSettings()
    orchard = store.get("orchard")
    assert {orchard.member_language(address, site) for address in orchard.members} == {"en", "de"}
    assert (
        store.get("kite-makers").address_as_written("yarrow12.cap@post.example.org") == "Yarrow12.Cap@Post.example.orG"
    )
    assert not orchard.is_member("stranger@example.org")


def test_language_the_list_does_not_offer_counts_as_the_lists_own(lists_dir: Path) -> None:
    values = {"preferred_language": "fr", "available_languages": ["fr", "de"], "members": {"a@b": 0}}
    _write_config(lists_dir, "invented", language={"a@b": "ja", "c@d": "de"}, **values)
    settings = ListSettingsStore(lists_dir).get("invented")
    assert settings.member_language("A@b", SiteSettings()) == "fr"
    assert settings.member_language("c@d", SiteSettings()) == "de"


@pytest.mark.parametrize("name", ["", ".", "..", "../lists/orchard", "orchard/", "/etc", "orchard\0", "a\nb"])
def test_name_that_would_lead_elsewhere_is_no_list(name: str) -> None:
    with pytest.raises(NoSuchList):
        ListSettingsStore(_GENUINE).get(name)


@pytest.mark.parametrize("name", ["nobody", "ORCHARD", "orchard/config.pck"])
def test_list_without_files_is_no_list(name: str) -> None:
    with pytest.raises(NoSuchList):
        ListSettingsStore(_GENUINE).get(name)


@pytest.mark.parametrize("damage", [b"", b"garbage", (_GENUINE / "orchard" / "config.pck").read_bytes()[:500]])
def test_damaged_config_falls_back_to_the_one_before(lists_dir: Path, damage: bytes) -> None:
    config = lists_dir / "orchard" / "config.pck"
    shutil.copy(config, config.with_name("config.pck.last"))
    config.write_bytes(damage)
    assert ListSettingsStore(lists_dir).get("orchard") == ListSettingsStore(_GENUINE).get("orchard")


def test_list_whose_only_config_is_damaged_is_unreadable_not_missing(lists_dir: Path) -> None:
    (lists_dir / "orchard" / "config.pck").write_bytes(b"garbage")
    with pytest.raises(ListConfigUnreadable):
        ListSettingsStore(lists_dir).get("orchard")


@pytest.mark.parametrize("content", [["no", "dictionary"], {"real_name": "without a host"}])
def test_config_without_what_delivery_needs_is_unreadable(lists_dir: Path, content: object) -> None:
    (lists_dir / "orchard" / "config.pck").write_bytes(pickle.dumps(content, protocol=1))
    with pytest.raises(ListConfigUnreadable):
        ListSettingsStore(lists_dir).get("orchard")


@pytest.mark.parametrize("name", _EMPTY_LIST)
@pytest.mark.parametrize("value", [None, 5])
def test_value_missing_in_config_is_not_taken_for_empty(lists_dir: Path, name: str, value: object) -> None:
    """A footer that is not there would be a mail without a footer."""
    file = _write_config(lists_dir, "invented")
    assert ListSettingsStore(lists_dir).get("invented").msg_footer == ""
    config = {key: kept for key, kept in _EMPTY_LIST.items() if key != name} | ({} if value is None else {name: value})
    file.write_bytes(pickle.dumps(config, protocol=1))
    with pytest.raises(ListConfigUnreadable, match=name):
        ListSettingsStore(lists_dir).get("invented")


def test_extension_that_comes_or_goes_is_noticed_without_a_restart(lists_dir: Path) -> None:
    store = ListSettingsStore(lists_dir)
    assert not store.get("orchard").is_extended
    (lists_dir / "orchard" / "extend.py").touch()
    assert store.get("orchard").is_extended and extended_lists(lists_dir) == ["orchard"]
    (lists_dir / "orchard" / "extend.py").unlink()
    assert not store.get("orchard").is_extended and extended_lists(lists_dir) == []
    assert extended_lists(lists_dir / "nowhere") == []


def test_list_of_a_mailman_too_old_for_pickles_is_unreadable_not_missing(lists_dir: Path) -> None:
    (lists_dir / "old").mkdir()
    (lists_dir / "old" / "config.db").write_bytes(b"{0")
    with pytest.raises(ListConfigUnreadable, match=r"config\.db"):
        ListSettingsStore(lists_dir).get("old")


def test_config_that_names_anything_to_run_is_unreadable(lists_dir: Path) -> None:
    marker = lists_dir / "ran"
    (lists_dir / "orchard" / "config.pck").write_bytes(f"cos\nsystem\n(S'touch {marker}'\ntR.".encode())
    with pytest.raises(ListConfigUnreadable):
        ListSettingsStore(lists_dir).get("orchard")
    assert not marker.exists()


def test_settings_are_read_again_only_when_the_file_changed(lists_dir: Path) -> None:
    store = ListSettingsStore(lists_dir)
    file = _write_config(lists_dir, "invented", msg_footer="before")
    first = store.get("invented")
    assert store.get("invented") is first
    _write_config(lists_dir, "invented", msg_footer="after!")
    os.utime(file, ns=(1, 1))
    assert store.get("invented").msg_footer == "after!"


def test_files_are_looked_at_again_after_a_second_and_not_before(lists_dir: Path) -> None:
    clock = StoppedClock()
    store = ListSettingsStore(lists_dir, clock)
    assert store.recent("invented") is None
    _write_config(lists_dir, "invented", msg_footer="before")
    first = store.get("invented")
    _write_config(lists_dir, "invented", msg_footer="after, and longer")
    clock.advance(LOOKED_AT_EVERY_S / 2)
    assert store.recent("invented") is first
    clock.advance(LOOKED_AT_EVERY_S / 2)
    assert store.recent("invented") is None
    assert store.get("invented").msg_footer == "after, and longer"
    assert (recent := store.recent("invented")) is not None and recent.msg_footer == "after, and longer"
