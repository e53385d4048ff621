"""One drain of a Mailman 2.1 queue that people have been at by hand: what Mailman would deliver is delivered, the rest is
held with what is the matter with it, and nothing is lost; `drainer scan` says the same beforehand."""

from __future__ import annotations

import base64
import email
import json
import pickle
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from drainer.queuedir.content import raw_bytes
from drainer.queuedir.read import read_entry
from tests.scenarios.hostile_queue import Fates, fates, mail, meant_for, put
from tests.scenarios.running import drainer, running_service, running_sink, site_settings

SAMPLES = Path(__file__).parents[1] / "samples"
ODD = SAMPLES / "odd"
LIST = "glasshouse"
GOOD = "good@example.org"
EMPTY_ADDRESSES = ["", " ", "\t", "<>", " < > "]


class _Policy:
    """Pickled as a value that only some Mailmans know."""

    def __reduce__(self) -> tuple[Any, ...]:
        return email_policy_stand_in, ()


def email_policy_stand_in() -> None:
    """Never called: the pickle is not run."""


@dataclass(frozen=True, slots=True)
class Drained:
    """filebases: by what is odd; scanned: `drainer scan --json` before, said: as text; checked: `drainer config --check`;
    taken: as the sink has it."""

    filebases: dict[str, str]
    scanned: dict[str, Any]
    said: str
    checked: str
    fates: Fates
    taken: list[dict[str, Any]]
    queue_dir: Path

    def delivered(self, message_id: str) -> Counter[str]:
        return Counter(
            recipient
            for one in self.taken
            if one["message_id"] == message_id and one["reverse_path"]
            for recipient in one["recipients"]
        )

    def content(self, message_id: str, recipient: str) -> Any:
        """What this recipient got."""
        (one,) = (one for one in self.taken if one["message_id"] == message_id and one["recipients"] == [recipient])
        return email.message_from_bytes(base64.b64decode(one["content"]))

    def held(self, name: str) -> tuple[str, str]:
        """Reason and detail; fails if it is anywhere but in drainer/held/, or anything else was said of it."""
        filebase = self.filebases[name]
        assert self.fates.where[filebase] == ["drainer/held"], name
        line = self.fates.line(filebase, "held")
        return line["reason"], line["detail"]


def lists_dir(home: Path) -> Path:
    """Of a list with a footer, and of two whose members are elsewhere: one with bulk delivery, one personalised."""
    (home / "lists").mkdir()
    shutil.copytree(SAMPLES / "mailman2" / "lists" / "kite-makers", home / "lists" / LIST)
    for name, like in (("extended", "kite-makers"), ("extended-personal", "orchard")):
        shutil.copytree(SAMPLES / "mailman2" / "lists" / like, home / "lists" / name)
        (home / "lists" / name / "extend.py").write_text(
            "def extend(mlist): mlist._memberadaptor = from_mysql(mlist)\n"
        )
    return home / "lists"


def entry(queue_dir: Path, message_id: str, **metadata: Any) -> str:
    without = metadata.pop("without", ())
    both = {"listname": LIST, "recips": [GOOD], "_parsemsg": 1, "version": 3, "tolist": 1, **metadata}
    kept = {key: value for key, value in both.items() if key not in without}
    return put(queue_dir, mail(message_id), pickle.dumps(kept, 1))


def _in_charset(name: str) -> str:
    return f"MIME-Version: 1.0\nContent-Type: text/plain; charset={name}\n"


@pytest.fixture(scope="module")
def drained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Drained]:
    home = tmp_path_factory.mktemp("odd")
    queue_dir = home / "qfiles"
    for name in ("archive", "bad", "bounces", "in", "out", "retry", "shunt", "virgin"):
        (queue_dir / name).mkdir(parents=True)
    found: dict[str, str] = {}
    for case, message_ids in (
        ("no-recipient-key", ("in", "archive", "good", "bounces")),
        ("recipients-as-dict", ("dict",)),
        ("charsets-of-python-3-only", ("macintosh", "x-mac-japanese", "cp65001", "kz1048", "cp866u", "us-ascii")),
    ):  # fmt: skip
        for name, file in zip(message_ids, sorted((ODD / case).glob("*.pck")), strict=True):
            filebase = f"{1_400_000_000 + len(found)}.5+{file.stem.partition('+')[2]}"
            shutil.copy2(file, queue_dir / "out" / f"{filebase}.pck")
            found[name] = filebase
    found |= {
        "None": entry(queue_dir, "<none@x>", recips=None, pipeline=[]),
        "empty": entry(queue_dir, "<empty@x>", recips=[]),
        "one text": entry(queue_dir, "<text@x>", recips=GOOD),
        "tuple": entry(queue_dir, "<tuple@x>", recips=(GOOD, "two@example.org")),
        "number": entry(queue_dir, "<number@x>", recips=[GOOD, 5]),
        "shunted archive": entry(queue_dir, "<archived@x>", whichq="/var/lib/mailman/qfiles/archive"),
        "shunted out": entry(queue_dir, "<unshunted@x>", whichq="/var/lib/mailman/qfiles/out"),
        "empty addresses": put(queue_dir, mail("<nobody@x>"), meant_for(GOOD, *EMPTY_ADDRESSES, list_name=LIST)),
        "empty, one by one": put(queue_dir, mail("<alone@x>"), meant_for(GOOD, *EMPTY_ADDRESSES, list_name=LIST, verp=1)),
        "only an empty address": put(queue_dir, mail("<none-of-them@x>"), meant_for("", list_name=LIST)),
        "two at signs": put(queue_dir, mail("<two-ats@x>"), meant_for(GOOD, "x@y@example.org", list_name=LIST)),
        "another class": put(
            queue_dir, mail("<policy@x>"), pickle.dumps({"listname": LIST, "recips": [GOOD], "policy": _Policy()}, 1)
        ),
        "extended, bulk": entry(queue_dir, "<bulk@x>", listname="extended"),
        "extended, VERP": entry(queue_dir, "<verp@x>", listname="extended", verp=1),
        "extended, VERP notice": entry(queue_dir, "<verp-notice@x>", listname="extended", verp=1, nodecorate=1),
        "extended, personal": entry(queue_dir, "<personal@x>", listname="extended-personal"),
        "extended, personal notice": entry(queue_dir, "<notice@x>", listname="extended-personal", personalize=0),
        "rot13": put(queue_dir, mail("<rot13@x>", "Uryyb\n", _in_charset("rot13")), meant_for(GOOD, list_name=LIST)),
        "hex": put(queue_dir, mail("<hex@x>", "48656c6c6f\n", _in_charset("hex")), meant_for(GOOD, list_name=LIST)),
        "metadata twice": put(queue_dir, meant_for(GOOD), meant_for(GOOD)),
        "garbage": put(queue_dir, b"no pickle", b""),
    }  # fmt: skip
    with running_sink(home / "sink", "--keep-content", "--rule", "rcpt 553 5.1.3 empty recipient=") as sink:
        mailman = {"flavour": "mailman2", "queue_dir": queue_dir, "lists_dir": lists_dir(home)}
        settings = site_settings(home, sink.port, mailman, feed={"dsn_wait": "0s"})
        scanned = drainer("scan", "--config", settings, "--json")
        said = drainer("scan", "--config", settings).stdout
        checked = drainer("config", "--check", "--config", settings).stdout
        with running_service(settings, home / "drainer.log", "--until-empty") as service:
            assert service.wait() == 0, service.log_text()
        taken = sink.taken()
    yield Drained(
        found, json.loads(scanned.stdout), said, checked, fates(queue_dir, home / "drainer.log"), taken, queue_dir
    )


@pytest.mark.parametrize(
    ("name", "belongs"),
    [
        ("in", "in/ (whichq = /var/lib/mailman/qfiles/in)"),
        ("archive", "archive/ (whichq = "),
        ("bounces", "bounces/ (whichq = "),
    ],
)
def test_entry_without_recips_is_held_and_the_reason_says_where_it_belongs(
    drained: Drained, name: str, belongs: str
) -> None:
    reason, detail = drained.held(name)
    assert reason == "no_recipient_list"
    assert detail.startswith("there is no 'recips' in its metadata: it belongs in " + belongs)
    (scanned,) = [one for one in drained.scanned["unreadable"] if one["file"] == f"{drained.filebases[name]}.pck"]
    assert (scanned["reason"], scanned["goes_to"]) == (reason, "held") and detail.startswith(scanned["detail"][:60])


def test_none_is_no_empty_list_of_recipients(drained: Drained) -> None:
    reason, detail = drained.held("None")
    assert reason == "no_recipient_list" and "'recips' is None" in detail


def test_empty_list_of_recipients_is_finished(drained: Drained) -> None:
    assert drained.filebases["empty"] not in drained.fates.where
    assert "finished" in drained.fates.outcomes(drained.filebases["empty"])


@pytest.mark.parametrize("name", ["one text", "number", "metadata twice"])
def test_entry_that_mailman_can_load_and_drainer_cannot_deliver_is_held_and_not_in_bad(
    drained: Drained, name: str
) -> None:
    assert drained.held(name)[0] == "not_understood"


def test_class_that_is_not_on_our_list_is_held_with_its_name(drained: Drained) -> None:
    reason, detail = drained.held("another class")
    assert reason == "unsafe_pickle" and "email_policy_stand_in" in detail


def test_entry_of_a_queue_that_mailman_never_delivers_from_is_not_sent(drained: Drained) -> None:
    reason, detail = drained.held("shunted archive")
    assert reason == "wrong_queue" and "archive/" in detail
    assert drained.delivered("<archived@x>") == Counter()
    assert drained.delivered("<unshunted@x>") == Counter([GOOD])


def test_entries_that_mailman_would_deliver_go_out_once(drained: Drained) -> None:
    of_the_dictionary, of_the_charset = ["d@example.com", "ok@example.com"], ["r5@example.com"]
    assert drained.delivered("<m5@example.org>") == Counter(of_the_dictionary + of_the_charset)
    assert drained.delivered("<tuple@x>") == Counter([GOOD, "two@example.org"])
    assert drained.delivered("<m3@example.org>")["ok@example.com"] == 1


def test_only_files_that_no_mailman_can_open_are_in_bad(drained: Drained) -> None:
    assert {path.stem for path in (drained.queue_dir / "bad").iterdir()} == {drained.filebases["garbage"]}
    assert "1 unreadable file:" in drained.said and "entries to be held for a person:" in drained.said


@pytest.mark.parametrize("name", ["extended, VERP", "extended, personal"])
def test_delivery_that_needs_members_kept_elsewhere_is_held(drained: Drained, name: str) -> None:
    reason, detail = drained.held(name)
    assert reason == "members_elsewhere"
    assert detail.startswith("members of this list are not in config.pck (extend.py)")


@pytest.mark.parametrize("message_id", ["<bulk@x>", "<verp-notice@x>", "<notice@x>"])
def test_delivery_that_asks_for_no_member_goes_out_all_the_same(drained: Drained, message_id: str) -> None:
    assert drained.delivered(message_id) == Counter([GOOD])


def test_scan_and_check_name_the_lists_with_members_kept_elsewhere(drained: Drained) -> None:
    named = "members of extended, extended-personal are not in config.pck (extend.py)"
    assert drained.scanned["extended_lists"] == ["extended", "extended-personal"]
    assert named in drained.said and named in drained.checked


def test_body_in_a_charset_that_python_2_does_not_know_is_wrapped_and_untouched(drained: Drained) -> None:
    for number, name in enumerate(("macintosh", "x-mac-japanese", "cp65001", "kz1048", "cp866u")):
        file = next((ODD / "charsets-of-python-3-only").glob(f"140000000{number}.5+*"))
        written = read_entry(file).message.attribute("_payload")
        assert isinstance(written, str)
        wrapped = drained.content(f"<m{number}@example.org>", f"r{number}@example.com")
        assert wrapped.get_content_type() == "multipart/mixed", name
        _, first, footer = wrapped.get_payload()
        assert first.get_content_charset() == name
        assert first.get_payload(decode=True) == raw_bytes(written).replace(b"\n", b"\r\n"), name
        assert footer["Content-Disposition"] == "inline"
    assert drained.content("<hex@x>", GOOD).get_payload()[1].get_payload() == "48656c6c6f\r\n"
    assert drained.content("<m5@example.org>", "r5@example.com").get_content_type() == "text/plain"


def test_body_in_a_charset_that_only_python_2_knows_is_decoded_as_mailman_does(drained: Drained) -> None:
    assert "\r\nHello\r\n~~~~\r\n" in drained.content("<rot13@x>", GOOD).get_payload()


@pytest.mark.parametrize(
    ("name", "message_id"), [("empty addresses", "<nobody@x>"), ("empty, one by one", "<alone@x>")]
)
def test_empty_address_is_skipped_with_its_reason_and_the_others_get_the_mail(
    drained: Drained, name: str, message_id: str
) -> None:
    assert drained.delivered(message_id) == Counter([GOOD])
    skipped = [one for one in drained.fates.said[drained.filebases[name]] if one.get("outcome") == "skipped"]
    assert [one["reply"] for one in skipped] == ["the entry names an empty address"] * len(EMPTY_ADDRESSES)


def test_no_dsn_names_an_empty_address(drained: Drained) -> None:
    dsns = [one for one in drained.taken if not one["reverse_path"]]
    assert [one["recipients"] for one in dsns] == [[f"{LIST}-bounces@lists.example.org"]]
    content = base64.b64decode(dsns[0]["content"])
    assert b"rfc822; x@y@example.org" in content, "Mailman 2.1 gives the MTA an empty address in its place"
