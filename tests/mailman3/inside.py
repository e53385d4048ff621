"""What the test site does inside Mailman's own Python: lists, members, posts, runners. Started by start/site.py as a script.

In    a command and a JSON file, MAILMAN_CONFIG_FILE; what the commands take is said in start/site.py
Out   changes of the site, made through Mailman's own interfaces and runners; nothing on standard output
"""

# mypy: disable-error-code="import-not-found, untyped-decorator"
from __future__ import annotations

import email
import io
import json
import os
import pickle
import smtplib
import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from string import Template
from types import SimpleNamespace
from typing import Any

from mailman.app.bounces import send_probe
from mailman.app.digests import maybe_send_digest_now
from mailman.app.inject import inject_message
from mailman.app.lifecycle import create_list
from mailman.config import config
from mailman.core.initialize import initialize
from mailman.email.message import Message, UserNotification
from mailman.interfaces import mailinglist
from mailman.interfaces.bounce import IBounceProcessor
from mailman.interfaces.domain import IDomainManager
from mailman.interfaces.languages import ILanguageManager
from mailman.interfaces.listmanager import IListManager
from mailman.interfaces.mailinglist import Personalization
from mailman.interfaces.member import DeliveryMode, MemberRole
from mailman.interfaces.template import ITemplateManager
from mailman.interfaces.usermanager import IUserManager
from mailman.runners.lmtp import LMTPHandler
from mailman.utilities.datetime import now
from mailman.utilities.modules import find_name
from sqlalchemy import event
from sqlalchemy.engine import Engine
from zope.component import getUtility


def build(spec: dict[str, Any]) -> None:
    """Domain, lists, members and templates."""
    for domain in sorted({item["name"].partition("@")[2] for item in spec["lists"]}):
        if domain not in getUtility(IDomainManager):
            getUtility(IDomainManager).add(domain)
    for item in spec["lists"]:
        mlist = create_list(item["name"])
        mlist.send_welcome_message = False
        mlist.display_name = item["display_name"]
        mlist.description = item["description"]
        mlist.info = item["info"]
        for name, value in item["settings"].items():
            setattr(mlist, name, listed_value(value))
        mlist.personalize = Personalization[item["personalize"]]
        mlist.preferred_language = getUtility(ILanguageManager)[item["language"]]
        for address, name, by_user, digest in item["members"]:
            subscribe(mlist, address, name, by_user, digest)
        for name, uri in item["templates"].items():
            getUtility(ITemplateManager).set(name, mlist.list_id, uri)
    config.db.commit()


def listed_value(value: Any) -> Any:
    """The member of an enumeration a text like DMARCMitigateAction.munge_from names; any other value as it is."""
    name, dot, member = value.partition(".") if isinstance(value, str) else ("", "", "")
    return getattr(mailinglist, name)[member] if dot and hasattr(mailinglist, name) else value


def subscribe(mlist: Any, address: str, name: str, by_user: bool, digest: str) -> None:
    """Add a member: by address, or if `by_user` as a user with a preferred address."""
    users = getUtility(IUserManager)
    user = users.get_user(address) or users.make_user(address, name)
    found = users.get_address(address)
    found.verified_on = now()
    if by_user:
        user.preferred_address = found
    member = mlist.subscribe(user if by_user else found, MemberRole.member)
    if digest:
        member.preferences.delivery_mode = DeliveryMode[digest]


def arrive(spec: dict[str, Any]) -> None:
    """Posts into a queue, for whichever runners work there."""
    for item in spec["posts"]:
        octets = Path(item["file"]).read_bytes()
        if item["recipients"] is None:
            mlist = getUtility(IListManager).get(item["list"])
            msg = email.message_from_bytes(octets, Message)
            inject_message(mlist, msg, switchboard=spec["into"], to_list=True, **item["metadata"])
        else:
            enqueue_directly(item, octets)


def post(spec: dict[str, Any]) -> None:
    """Posts into a queue, notices through `virgin/`, digests, and the genuine runners until `out/` holds everything."""
    arrive(spec)
    for item in spec["notices"]:
        mlist = getUtility(IListManager).get(item["list"])
        notice = UserNotification(
            item["recipient"], mlist.bounces_address, item["subject"], item["text"], mlist.preferred_language
        )
        notice.send(mlist)
    config.db.commit()
    for name in ("in", "pipeline"):
        run_until_empty(name)
    for mlist in list(getUtility(IListManager)):
        if (Path(mlist.data_path) / "digest.mmdf").exists():
            maybe_send_digest_now(mlist, force=True)
    config.db.commit()
    for name in ("digest", "virgin"):
        run_until_empty(name)
    for name, post_id in spec["post_ids"].items():
        getUtility(IListManager).get(name).post_id = post_id
    config.db.commit()


def enqueue_directly(item: dict[str, Any], octets: bytes) -> None:
    """An entry of `out/`, with a message or with text, by Mailman's own switchboard."""
    is_text = item["metadata"].get("_plaintext", False)
    content = octets.decode("ascii") if is_text else email.message_from_bytes(octets, Message)
    listid = item["list"].replace("@", ".")
    metadata = {**item["metadata"], "listid": listid, "recipients": set(item["recipients"])}
    config.switchboards["out"].enqueue(content, **metadata)


def clone(spec: dict[str, Any]) -> None:
    """Copies of entries of `out/` by Mailman's own switchboard, each with a Message-ID and a subject of its own."""
    out = config.switchboards["out"]
    raw = Path(spec["entry"]).read_bytes()
    for number in range(spec["copies"]):
        stream = io.BytesIO(raw)
        msg, msgdata = pickle.load(stream), pickle.load(stream)
        msg.replace_header("Message-ID", f"<copy-{number}@posts.example.org>")
        msg.replace_header("Subject", f"{msg['subject']}, copy {number}")
        if spec["recipients"]:
            msgdata["recipients"] = set(spec["recipients"])
        out.enqueue(msg, msgdata)


def set_templates(spec: dict[str, Any]) -> None:
    """Templates of lists changed, as Postorius does it."""
    for item in spec["templates"]:
        mlist = getUtility(IListManager).get(item["list"])
        getUtility(ITemplateManager).set(item["name"], mlist.list_id, item["uri"])
    config.db.commit()


def outgoing(spec: dict[str, Any]) -> None:
    """Mailman's own outgoing runner over everything in `out/`; the SMTP port comes from the configuration."""

    def announce(filebase: str) -> None:
        with smtplib.SMTP(config.mta.smtp_host, int(config.mta.smtp_port), "localhost") as connection:
            connection.docmd("NOOP", filebase)

    run_until_empty("out", announce if spec["announced"] else None)


def outage(spec: dict[str, Any]) -> None:
    """Mailman's own outgoing runner over everything in `out/` while nothing listens at its port."""
    run_until_empty("out")


def run_until_empty(name: str, announce: Callable[[str], None] | None = None) -> None:
    """The genuine runner; it gets each entry's file name before it processes the entry."""
    section = getattr(config, "runner." + name)
    genuine = find_name(section["class"])

    class UntilEmpty(genuine):  # type: ignore[misc, valid-type]
        rounds = 0

        def _snooze(self, filecnt: int) -> None:
            self.rounds += 1
            if filecnt == 0 or self.rounds > 50:
                self.stop()

    runner = UntilEmpty(name)
    if announce is not None:
        dequeue = runner.switchboard.dequeue

        def dequeue_announced(filebase: str) -> Any:
            announce(filebase)
            return dequeue(filebase)

        runner.switchboard.dequeue = dequeue_announced
    runner.run()


def bounces(spec: dict[str, Any]) -> None:
    """Mails to bounce addresses by the genuine LMTP server and bounce runner; then Mailman's scores of members."""
    handler = LMTPHandler()
    answers = []
    for recipient, path in spec["mails"]:
        envelope = SimpleNamespace(mail_from="", rcpt_tos=[], rcpt_options=[], content=Path(path).read_bytes())
        answers.append(handler._handle_RCPT(None, None, envelope, recipient, []))
        answers.append(handler._handle_DATA(None, SimpleNamespace(peer=("127.0.0.1", 1)), envelope))
    run_until_empty("bounces")
    config.db.commit()
    events = [[event.list_id, event.email, event.context.name] for event in getUtility(IBounceProcessor).events]
    scores = {
        f"{member.address.email} {mlist.list_id}": [
            member.bounce_score,
            member.preferences.delivery_status.name if member.preferences.delivery_status else "",
        ]
        for mlist in getUtility(IListManager)
        for member in mlist.members.members
        if member.last_bounce_received or member.preferences.delivery_status
    }
    Path(spec["answer"]).write_text(json.dumps({"lmtp": answers, "events": events, "scores": scores}))


def probe(spec: dict[str, Any]) -> None:
    """A probe to a member, as Mailman sends it before it disables one; answered with its reverse-path."""
    mlist = getUtility(IListManager).get(spec["list"])
    token = send_probe(mlist.members.get_member(spec["member"]), message_id="<bounced@example.org>")
    config.db.commit()
    local, _, domain = mlist.bounces_address.partition("@")
    reverse_path = Template(config.mta.verp_probe_format).substitute(bounces=local, token=token, domain=domain)
    Path(spec["answer"]).write_text(json.dumps(reverse_path))


COMMANDS = {
    "bounces": bounces,
    "probe": probe,
    "arrive": arrive,
    "build": build,
    "post": post,
    "clone": clone,
    "templates": set_templates,
    "outage": outage,
    "outgoing": outgoing,
}


def write_fast() -> None:
    """A test site need not survive a power failure: nothing waits for the disk."""
    os.fsync = lambda fd: None

    @event.listens_for(Engine, "connect")
    def without_waiting(connection: Any, _record: object) -> None:
        if isinstance(connection, sqlite3.Connection):
            connection.execute("PRAGMA synchronous = OFF")


if __name__ == "__main__":
    write_fast()
    initialize(None, False)
    for step in json.loads(Path(sys.argv[1]).read_text()):
        COMMANDS[step["command"]](step)
