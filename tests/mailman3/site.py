"""A genuine Mailman 3 for tests and the benchmark: lists, members, and an `out/` filled by its own runners.

In    an empty directory and a description of lists and posts
Out   a Site: mailman.cfg, an SQLite database, queue entries; Mailman's own outgoing runner on request

Mailman runs in a Python of its own (inside.py is its side), found by `mailman_python`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

KIND = "sample_kind"
NOON = 1_772_452_800.0

_ROOT = Path(__file__).parents[2]
_INSIDE = Path(__file__).with_name("inside.py")

_CONFIG = """\
[mailman]
layout: here
site_owner: owner@lists.example.org
[paths.here]
var_dir: {var}
[mta]
incoming: mailman.mta.null.NullMTA
smtp_host: 127.0.0.1
smtp_port: 1
{mta}
"""

GERMAN = """\
[language.de]
description: German
charset: iso-8859-1
enabled: yes
"""


_VENVS = {"3.3.10": ".venv-mailman3", "3.3.8": ".venv-mailman338"}
VERSIONS = tuple(_VENVS)
"""The newest Mailman, and the one of Debian 12."""


def mailman_python(version: str = "3.3.10") -> Path:
    """The Python that can import this version of mailman. Skips the test where there is none, fails it in CI."""
    named = os.environ.get("DRAINER_TEST_MAILMAN3_PYTHON") if version == "3.3.10" else None
    python = Path(named) if named else _ROOT / _VENVS[version] / "bin" / "python"
    if not python.exists():
        reason = f"no genuine Mailman {version} at {python}; install it with `make {_VENVS[version]}/installed`"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return python


@dataclass(frozen=True, slots=True)
class Member:
    """by_user: subscribed as a user with a preferred address, not by address. digest: name of a DeliveryMode."""

    address: str
    name: str = ""
    by_user: bool = False
    digest: str = ""


@dataclass(frozen=True, slots=True)
class MailingList:
    """personalize: none, individual or full. templates: template name = text, stored below the site.

    settings  other attributes of Mailman's list object; "DMARCMitigateAction.munge_from" stands for that value
    """

    name: str
    members: Sequence[Member]
    display_name: str = "A list"
    description: str = ""
    info: str = ""
    personalize: str = "none"
    language: str = "en"
    templates: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Post:
    """A mail for a list.

    recipients  given: it goes into out/ as it is, for just these
    kind        what it shows; found again in the entry's metadata under KIND
    metadata    added to the entry's; with `_plaintext` it is pickled as text (`_parsemsg`)
    """

    mailing_list: str
    octets: bytes
    recipients: Sequence[str] | None = None
    kind: str = ""
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Notice:
    """A mail Mailman itself writes, through the virgin queue."""

    mailing_list: str
    recipient: str
    subject: str
    text: str


class Site:
    """One Mailman 3 below `directory`.

    config   its mailman.cfg
    out      its outgoing queue directory
    entries  the genuine entries `post` made: file name = bytes
    """

    def __init__(self, directory: Path, python: Path, mta: str = "", extra_config: str = GERMAN) -> None:
        self.directory = directory
        self.python = python
        self.var = directory / "var"
        self.config = directory / "mailman.cfg"
        self.out = self.var / "queue" / "out"
        self.entries: dict[str, bytes] = {}
        directory.mkdir(parents=True, exist_ok=True)
        self.config.write_text(_CONFIG.format(var=self.var, mta=mta) + extra_config)

    @classmethod
    def found(cls, directory: Path, python: Path) -> Site:
        """The site that was built there, with the entries it has in out/."""
        site = cls.__new__(cls)
        site.directory, site.python = directory, python
        site.var, site.config = directory / "var", directory / "mailman.cfg"
        site.out = site.var / "queue" / "out"
        site.entries = site._entries_in_out()
        return site

    def populate(
        self,
        lists: Sequence[MailingList],
        posts: Sequence[Post] = (),
        notices: Sequence[Notice] = (),
        post_ids: Mapping[str, int] | None = None,
        into: str = "in",
    ) -> None:
        """Make lists, post, and run Mailman's runners (incoming, pipeline, digest, virgin) until `out/` holds it all.

        post_ids  list name = number of posts it counts afterwards (decides about VERP by interval)
        into      the queue posts begin in: "pipeline" spares the rules, which change nothing in a post they let pass
        """
        self._inside(
            {"command": "build", "lists": [self._list_spec(item) for item in lists]},
            {
                "command": "post",
                "posts": [self._post_spec(number, item) for number, item in enumerate(posts)],
                "notices": [
                    {"list": item.mailing_list, "recipient": item.recipient, "subject": item.subject, "text": item.text}
                    for item in notices
                ],
                "post_ids": dict(post_ids or {}),
                "into": into,
            },
        )
        self.entries = self._entries_in_out()

    def arrive(self, posts: Sequence[Post]) -> None:
        """Put posts into in/, for Mailman's own runners."""
        specs = [self._post_spec(number, item) for number, item in enumerate(posts)]
        self._inside({"command": "arrive", "posts": specs, "into": "in"})

    def outage(
        self, lists: Sequence[MailingList], posts: Sequence[Post], changed: Mapping[str, Mapping[str, str]]
    ) -> None:
        """Make lists and post while no MTA listens: Mailman's runners bring everything into `out/`, its outgoing runner puts
        it into `retry/`. Then the administrators of some lists change templates, and all senders submit again.

        changed  list name = template name = text
        """
        again = {
            "command": "post",
            "posts": [self._post_spec(number, item) for number, item in enumerate(posts)],
            "notices": [],
            "post_ids": {},
            "into": "pipeline",
        }
        templates = []
        for list_name, texts in changed.items():
            for name, text in texts.items():
                path = self.directory / "templates" / list_name.replace("@", ".") / f"{name}.later.txt"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
                templates.append({"list": list_name, "name": name, "uri": f"file://{path}"})
        self._inside(
            {"command": "build", "lists": [self._list_spec(item) for item in lists]},
            again,
            {"command": "outage"},
            {"command": "templates", "templates": templates},
            again,
        )
        self.entries = self._entries_in_out()

    def clone_entry(self, name: str, copies: int, recipients: Sequence[str] = ()) -> None:
        """Put copies of an entry into out/, each with its own Message-ID and, if given, these recipients."""
        source = self.directory / "cloned.pck"
        source.write_bytes(self.entries[name])
        self._inside({"command": "clone", "entry": str(source), "copies": copies, "recipients": list(recipients)})

    def set_template(self, mailing_list: str, name: str, uri: str) -> None:
        """Give a list another template, as an administrator does."""
        self._inside({"command": "templates", "templates": [{"list": mailing_list, "name": name, "uri": uri}]})

    def restore_entries(self) -> None:
        """Put the genuine entries back into out/, and nothing else."""
        for path in self.out.iterdir():
            path.unlink()
        for name, raw in self.entries.items():
            (self.out / name).write_bytes(raw)

    def run_outgoing_once(self, port: int) -> None:
        """Let Mailman's own outgoing runner deliver all of out/ to an SMTP server on 127.0.0.1.

        Before each entry the server gets its file name without suffix, as the argument of a NOOP.
        """
        self._run_outgoing(port, announced=True)

    def run_outgoing_without_mta(self) -> None:
        """Let Mailman's own outgoing runner try all of out/ while nothing listens: the entries go to retry/."""
        self._run_outgoing(port=1, announced=False)

    def _run_outgoing(self, port: int, announced: bool) -> None:
        overlay = self.directory / "port.cfg"
        overlay.write_text(f"[mta]\nsmtp_port: {port}\n")
        step = {"command": "outgoing", "announced": announced}
        self._inside(step, environment={"MAILMAN_EXTRA_TESTING_CFG": str(overlay)})

    def bounce(self, mails: Sequence[tuple[str, bytes]]) -> dict[str, Any]:
        """Give Mailman mails for its bounce addresses, by its own LMTP server, and let its bounce runner work them.

        mails    recipient, content
        Returns  `lmtp`: its replies; `events`: [list-id, address, context] it registered; `scores`: "address list-id" =
                 [score, delivery status] of the members concerned
        """
        named = []
        for number, (recipient, content) in enumerate(mails):
            path = self.directory / f"bounce-{number}.eml"
            path.write_bytes(content)
            named.append([recipient, str(path)])
        answer = self.directory / "answer.json"
        self._inside({"command": "bounces", "mails": named, "answer": str(answer)})
        found: dict[str, Any] = json.loads(answer.read_text())
        return found

    def probe(self, mailing_list: str, member: str) -> str:
        """Let Mailman send a probe to a member. Returns its reverse-path."""
        answer = self.directory / "answer.json"
        self._inside({"command": "probe", "list": mailing_list, "member": member, "answer": str(answer)})
        return str(json.loads(answer.read_text()))

    def add_config(self, text: str) -> None:
        """More sections at the end of mailman.cfg."""
        with self.config.open("a") as config:
            config.write(text)

    def hold_still(self) -> None:
        """From now on `python` is one whose time.time() says NOON and whose random numbers are all the same.

        What is signed twice is then signed at the same second, and over the same MIME boundaries.
        """
        stopped = self.directory / "stopped"
        stopped.mkdir()
        (stopped / "sitecustomize.py").write_text(
            f"import random, time\ntime.time = lambda: {NOON}\nrandom.randrange = lambda *bounds: 4\n"
        )
        python = stopped / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={stopped} exec {self.python} "$@"\n')
        python.chmod(0o755)
        self.python = python

    def copy_to(self, directory: Path) -> Site:
        """The same site elsewhere, for tests that change it."""
        shutil.copytree(self.directory, directory, dirs_exist_ok=True)
        copied = Site.found(directory, self.python)
        copied.entries = dict(self.entries)
        copied.config.write_text(self.config.read_text().replace(str(self.directory), str(directory)))
        return copied

    def all_files(self) -> dict[str, str]:
        """Everything below the site's var directory: path = digest of its content, and when it was written."""
        return {
            str(path): f"{hashlib.sha256(path.read_bytes()).hexdigest()} {path.stat().st_mtime_ns}"
            if path.is_file()
            else ""
            for path in self.var.rglob("*")
        }

    def _entries_in_out(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.out.glob("*.pck"))}

    def _list_spec(self, item: MailingList) -> dict[str, object]:
        templates = {}
        for name, text in item.templates.items():
            path = self.directory / "templates" / item.name.replace("@", ".") / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            templates[name] = f"file://{path}"
        return {
            "name": item.name,
            "display_name": item.display_name,
            "description": item.description,
            "info": item.info,
            "settings": dict(item.settings),
            "personalize": item.personalize,
            "language": item.language,
            "members": [[member.address, member.name, member.by_user, member.digest] for member in item.members],
            "templates": templates,
        }

    def _post_spec(self, number: int, item: Post) -> dict[str, object]:
        path = self.directory / "posts" / f"{number}.eml"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(item.octets)
        return {
            "list": item.mailing_list,
            "file": str(path),
            "recipients": None if item.recipients is None else list(item.recipients),
            "metadata": {**item.metadata, KIND: item.kind},
        }

    def _inside(self, *steps: Mapping[str, object], environment: Mapping[str, str] | None = None) -> None:
        script = self.directory / "steps.json"
        script.write_text(json.dumps(steps))
        done = subprocess.run(
            [self.python, _INSIDE, script],
            env={**os.environ, "MAILMAN_CONFIG_FILE": str(self.config), **(environment or {})},
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=1800,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"Mailman's side failed:\n{done.stdout}{done.stderr}")
