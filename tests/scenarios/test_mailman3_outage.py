"""After an outage of the MTA: what a genuine Mailman 3 has put into retry/, decorated, and the same mails submitted again.

Its own runners made the site (tests/mailman3/outage.py): lists of every kind, mails of every shape, templates that were
changed while the MTA was down.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest

from drainer.cli.scan import scan_command
from drainer.duplicates.mail_facts import is_decorated
from drainer.duplicates.summary import summarise
from drainer.queuedir.read import read_entry
from tests.conftest import built_once
from tests.mailman3 import outage
from tests.mailman3.site import KIND, Site, mailman_python
from tests.scenarios.running import SinkProcess, eventually, running_service, running_sink, site_settings
from tests.scenarios.test_via_mailman import outgoing_runner

Given = Counter[tuple[str, str]]
"""("post 7", recipient) = copies. Each list has members of its own."""

_POST = re.compile(r"\bpost (\d+)")


@pytest.fixture(scope="module")
def after_outage(tmp_path_factory: pytest.TempPathFactory) -> Site:
    python = mailman_python()

    def build(directory: Path) -> None:
        site = Site(directory, python, "", outage.CONFIG)
        site.outage(list(outage.LISTS.values()), outage.posts(), outage.CHANGED)

    return Site.found(built_once(tmp_path_factory, "mailman3-outage", build), python)


@pytest.fixture
def site(after_outage: Site, tmp_path: Path) -> Site:
    return after_outage.copy_to(tmp_path / "site")


def queue(site: Site, name: str) -> list[Path]:
    return sorted((site.var / "queue" / name).glob("*.pck"))


def list_of(file: Path) -> str:
    list_id = read_entry(file).list_id
    return list_id.replace(".", "@", 1)


def kind_of(file: Path) -> str:
    return str(read_entry(file).metadata[KIND]).partition(": ")[2]


def owed(files: list[Path]) -> Given:
    found: Given = Counter()
    for entry in map(read_entry, files):
        found.update((_post(summarise(entry).subject), recipient) for recipient in entry.recipients)
    return found


def given(sink: SinkProcess) -> Given:
    found: Given = Counter()
    for taken in sink.taken():
        mail = message_from_bytes(base64.b64decode(taken["content"]), policy=policy.default)
        found.update((_post(str(mail["subject"])), recipient) for recipient in taken["recipients"])
    return found


def _post(subject: str) -> str:
    match = _POST.search(subject)
    assert match, subject
    return match[0]


def twice(deliveries: Given) -> dict[tuple[str, str], int]:
    return {who: copies for who, copies in deliveries.items() if copies > 1}


def settings_for(site: Site, home: Path, port: int, **feed: Any) -> Path:
    mailman = {
        "flavour": "mailman3",
        "queue_dir": site.var / "queue",
        "python": site.python,
        "config": site.config,
        "coprocesses": 1,
    }
    return site_settings(home, port, mailman, custody={"queues": ["out", "retry"]}, feed=feed)


def held_lists(site: Site) -> Counter[str]:
    return Counter(map(list_of, (site.var / "queue" / "drainer" / "held").glob("*.pck")))


def test_the_site_is_what_an_outage_leaves_and_a_scan_claims_no_more_than_its_files_say(
    site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    retry, out = queue(site, "retry"), queue(site, "out")
    everywhere = {item.name for item in outage.LISTS.values()}
    assert {list_of(file) for file in retry} == {list_of(file) for file in out} == everywhere
    assert owed(retry) == owed(out)
    decorated = {list_of(file) for file in retry if is_decorated(read_entry(file))}
    assert everywhere - decorated == {outage.LISTS["personalised"].name}
    assert not any(is_decorated(read_entry(file)) for file in out)

    for file in retry:
        file.rename(site.out / file.name)
    assert scan_command(site.var / "queue", "out", as_json=True, with_entries=True) == 0
    entries = json.loads(capsys.readouterr().out)["entries"]
    found = {entry["file"]: entry["class"] for entry in entries}
    untold = {name for name, kind in found.items() if kind == "undecided"}
    assert Counter(found.values()) == {"none": len(out), "exact": len(out) - len(untold), "undecided": len(untold)}
    kinds = {str(read_entry(site.out / name).metadata[KIND]) for name in untold}
    assert kinds == {f"both@{outage.HOST}: {kind}" for kind in ("empty body", "only blank lines")}


def test_every_recipient_gets_each_mail_once_though_it_is_in_retry_decorated_and_in_out(
    site: Site, tmp_path: Path
) -> None:
    """Of each list some mails lie there in both ways at once; of some the decorated copy comes first, of others the other
    one, and is finished before the service is killed: then only the ledger knows of it. Of both copies at once the one
    proves the other where templates were changed; the ledger alone cannot show it, so it is held."""
    expected = owed(queue(site, "out"))
    together, retry_first, out_first = (set(outage.KINDS[start::3]) for start in range(3))
    later = tmp_path / "later"
    for name, comes_later in (("out", retry_first), ("retry", out_first)):
        (later / name).mkdir(parents=True)
        for file in queue(site, name):
            if kind_of(file) in comes_later:
                file.rename(later / name / file.name)
    with running_sink(tmp_path / "sink", "--keep-content") as sink:
        settings = settings_for(site, tmp_path, sink.port)
        mails = len({(list_of(file), kind_of(file)) for file in (*queue(site, "out"), *queue(site, "retry"))})
        pairs = len({(list_of(file), kind_of(file)) for file in queue(site, "out") if kind_of(file) in together})
        with running_service(settings, tmp_path / "first.log") as service:
            eventually(lambda: service.log_text().count("outcome=finished") == mails, service.log_text)
            eventually(lambda: service.log_text().count("outcome=suppressed") == pairs, service.log_text)
            service.kill()
        assert given(sink) == expected
        assert held_lists(site) == Counter()
        for file in list(later.rglob("*.pck")):
            file.rename(site.var / "queue" / file.parent.name / file.name)
        with running_service(settings, tmp_path / "second.log", "--until-empty") as service:
            assert service.wait() == 0, service.log_text()
        deliveries = given(sink)
    assert twice(deliveries) == {}
    assert deliveries == expected
    changed = {f"{name}@{outage.HOST}" for name in ("changed", "shorter")}
    assert held_lists(site) == Counter(dict.fromkeys(changed, 2)), service.log_text()
    assert service.log_text().count("reason=undecided") == 4


def test_mailmans_own_runner_gets_each_mail_once_too(site: Site, tmp_path: Path) -> None:
    """feed.via = "mailman": Mailman is asked for header and footer though it composes nothing for us."""
    some = {
        outage.LISTS[which].name for which in ("a footer of its own", "wrapped with a text", "footer changed meanwhile")
    }
    for file in [*queue(site, "out"), *queue(site, "retry")]:
        if list_of(file) not in some:
            file.unlink()
    entries, expected = len(queue(site, "out")), owed(queue(site, "out"))
    with running_sink(tmp_path / "sink", "--keep-content") as sink:
        settings = settings_for(site, tmp_path, 1, via="mailman")
        with running_service(settings, tmp_path / "drainer.log") as service, outgoing_runner(site, sink.port):
            eventually(lambda: service.log_text().count("outcome=suppressed") == entries, service.log_text)
        deliveries = given(sink)
    assert twice(deliveries) == {}
    assert deliveries == expected
    assert "event=no_decoration" not in service.log_text()
