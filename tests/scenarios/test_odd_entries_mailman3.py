"""One drain of a genuine Mailman 3's queue with entries in it that other programs enqueued, or people moved: one list has
one name, what Mailman would deliver is delivered, what drainer does not know is held with its reason and is not in bad/."""

from __future__ import annotations

import email.message
import email.policy
import json
import pickle
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

from tests.mailman3.site import Site
from tests.scenarios.hostile_queue import fates
from tests.scenarios.running import drainer, running_service, running_sink, site_settings

HOST = "lists.example.org"
ID, ADDRESS = f"bare.{HOST}", f"bare@{HOST}"
GOOD, OTHER = "good@example.com", "other@example.com"


def put(site: Site, number: int, message: object, **metadata: Any) -> str:
    """Into out/. Returns its filebase."""
    both = {"version": 3, "to_list": True, "received_time": datetime(2024, 5, 1, 12, number), **metadata}
    filebase = f"17{number:08d}.5+{number:040x}"
    (site.out / f"{filebase}.pck").write_bytes(pickle.dumps(message, 4) + pickle.dumps(both, 4))
    return filebase


def mail(name: str) -> str:
    date = "Wed, 1 May 2024 12:00:00 +0000"
    return f"From: ann@example.org\nSubject: {name}\nDate: {date}\nMessage-ID: <{name}@x>\n\nHello.\n"


def enqueued(site: Site) -> dict[str, str]:
    modern = email.message_from_string(mail("modern"), email.message.EmailMessage, policy=email.policy.default)
    old_class: Any = email.message.Message
    its_policy = email.message_from_string(mail("modern"), old_class, policy=email.policy.default)
    text = {"_parsemsg": True}
    return {
        "by list-id": put(site, 1, mail("twice"), **text, listid=ID, recipients={GOOD, OTHER}),
        "by address": put(site, 2, mail("twice"), **text, listname=ADDRESS, recipients={GOOD, OTHER}),
        "only by address": put(site, 3, mail("once"), **text, listname=ADDRESS, recipients=[GOOD]),
        "EmailMessage": put(site, 4, modern, listid=ID, recipients={GOOD}),
        "EmailPolicy": put(site, 5, its_policy, listid=ID, recipients={GOOD}),
        "no recipients": put(site, 6, mail("lost"), **text, listid=ID, whichq="in"),
        "None": put(site, 7, mail("none"), **text, listid=ID, recipients=None, rule_hits=[]),
        "empty": put(site, 8, mail("empty"), **text, listid=ID, recipients=set()),
        "shunted archive": put(site, 9, mail("archived"), **text, listid=ID, recipients={GOOD}, whichq="archive"),
        "dictionary": put(site, 10, mail("dictionary"), **text, listid=ID, recipients={GOOD: 1, OTHER: 2}),
        "empty addresses": put(site, 11, mail("nobody"), **text, listid=ID, recipients=[GOOD, "", " ", "<>"]),
        "empty addresses, VERP": put(site, 12, mail("verp"), **text, listid=ID, recipients=[GOOD, "", " "], verp=True),
        "no such address": put(site, 13, mail("gone"), **text, listname=f"gone@{HOST}", recipients=[GOOD]),
    }


def test_entries_that_mailmans_own_runners_did_not_enqueue(mailman3_copy: Site, tmp_path: Path) -> None:
    site = mailman3_copy
    queue_dir = site.var / "queue"
    for path in site.out.iterdir():
        path.unlink()
    names = enqueued(site)
    with running_sink(tmp_path / "sink") as sink:
        mailman = {"flavour": "mailman3", "queue_dir": queue_dir, "config": site.config, "python": site.python}
        settings = site_settings(tmp_path, sink.port, {**mailman, "coprocesses": 1})
        scanned = json.loads(drainer("scan", "--config", settings, "--json", "--entries").stdout)
        with running_service(settings, tmp_path / "drainer.log", "--until-empty") as service:
            assert service.wait() == 0, service.log_text()
        delivered = sink.deliveries()
    found = fates(queue_dir, tmp_path / "drainer.log")
    held = {
        name: (found.line(filebase, "held")["reason"], found.line(filebase, "held")["detail"])
        for name, filebase in names.items()
        if found.where.get(filebase) == ["drainer/held"]
    }

    assert delivered == Counter(
        {
            ("<twice@x>", GOOD): 1,
            ("<twice@x>", OTHER): 1,
            ("<once@x>", GOOD): 1,
            ("<dictionary@x>", GOOD): 1,
            ("<dictionary@x>", OTHER): 1,
            ("<nobody@x>", GOOD): 1,
            ("<verp@x>", GOOD): 1,
        }
    )
    assert found.where[names["by address"]] == ["drainer/duplicates"], "one list, whichever way it is named"
    of_list = {one["file"] for one in scanned["entries"] if one["list"] == ID}
    assert {f"{names['by list-id']}.pck", f"{names['by address']}.pck", f"{names['only by address']}.pck"} <= of_list
    assert {name: reason for name, (reason, _) in held.items()} == {
        "EmailMessage": "unsafe_pickle",
        "EmailPolicy": "unsafe_pickle",
        "no recipients": "no_recipient_list",
        "None": "no_recipient_list",
        "shunted archive": "wrong_queue",
        "no such address": "no_such_list",
    }
    assert "'EmailPolicy'" in held["EmailPolicy"][1]
    assert "it belongs in in/ (whichq = in)" in held["no recipients"][1]
    assert "'recipients' is None" in held["None"][1] and "pipeline/ (rule_hits" in held["None"][1]
    assert names["empty"] not in found.where
    assert list((queue_dir / "bad").iterdir()) == []
    skipped = [one["reply"] for lines in found.said.values() for one in lines if one.get("outcome") == "skipped"]
    assert skipped == ["the entry names an empty address"] * 5
