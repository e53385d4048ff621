"""What the test site does inside Mailman's own Python: lists, members, posts, runners. Started by site.py as a script.

In    a command and a JSON file, MAILMAN_CONFIG_FILE; what the commands take is said in site.py
Out   changes of the site, made through Mailman's own interfaces and runners; nothing on standard output
"""

# mypy: disable-error-code="import-not-found, untyped-decorator"
from __future__ import annotations

import email
import io
import json
import pickle
import sys
from pathlib import Path
from typing import Any

from mailman.app.inject import inject_message
from mailman.app.lifecycle import create_list
from mailman.config import config
from mailman.core.initialize import initialize
from mailman.email.message import Message, UserNotification
from mailman.interfaces.domain import IDomainManager
from mailman.interfaces.languages import ILanguageManager
from mailman.interfaces.listmanager import IListManager
from mailman.interfaces.mailinglist import Personalization
from mailman.interfaces.member import MemberRole
from mailman.interfaces.template import ITemplateManager
from mailman.interfaces.usermanager import IUserManager
from mailman.utilities.datetime import now
from mailman.utilities.modules import find_name
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
        mlist.personalize = Personalization[item["personalize"]]
        mlist.preferred_language = getUtility(ILanguageManager)[item["language"]]
        for address, name, by_user in item["members"]:
            subscribe(mlist, address, name, by_user)
        for name, uri in item["templates"].items():
            getUtility(ITemplateManager).set(name, mlist.list_id, uri)
    config.db.commit()


def subscribe(mlist: Any, address: str, name: str, by_user: bool) -> None:
    """Make somebody a member: by address, or if `by_user` as a user with a preferred address."""
    users = getUtility(IUserManager)
    user = users.get_user(address) or users.make_user(address, name)
    found = users.get_address(address)
    found.verified_on = now()
    if by_user:
        user.preferred_address = found
    mlist.subscribe(user if by_user else found, MemberRole.member)


def post(spec: dict[str, Any]) -> None:
    """Posts into `in/`, a notice through `virgin/`, and the genuine runners until `out/` holds everything."""
    for item in spec["posts"]:
        mlist = getUtility(IListManager).get(item["list"])
        octets = Path(item["file"]).read_bytes()
        if item["plaintext"]:
            config.switchboards["out"].enqueue(
                octets.decode("ascii"),
                listid=mlist.list_id,
                recipients=set(item["recipients"]),
                nodecorate=True,
                _plaintext=True,
            )
        else:
            inject_message(mlist, email.message_from_bytes(octets, Message), to_list=True)
    for item in spec["notices"]:
        mlist = getUtility(IListManager).get(item["list"])
        notice = UserNotification(
            item["recipient"], mlist.bounces_address, item["subject"], item["text"], mlist.preferred_language
        )
        notice.send(mlist)
    config.db.commit()
    for name in ("in", "pipeline", "virgin"):
        run_until_empty(name)
    for name, post_id in spec["post_ids"].items():
        getUtility(IListManager).get(name).post_id = post_id
    config.db.commit()


def clone(spec: dict[str, Any]) -> None:
    """Copies of entries of `out/` by Mailman's own switchboard, each with a Message-ID of its own."""
    out = config.switchboards["out"]
    raw = Path(spec["entry"]).read_bytes()
    for number in range(spec["copies"]):
        stream = io.BytesIO(raw)
        msg, msgdata = pickle.load(stream), pickle.load(stream)
        msg.replace_header("Message-ID", f"<copy-{number}@posts.example.org>")
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
    run_until_empty("out")


def run_until_empty(name: str) -> None:
    section = getattr(config, "runner." + name)
    genuine = find_name(section["class"])

    class UntilEmpty(genuine):  # type: ignore[misc, valid-type]
        rounds = 0

        def _snooze(self, filecnt: int) -> None:
            self.rounds += 1
            if filecnt == 0 or self.rounds > 50:
                self.stop()

    UntilEmpty(name).run()


COMMANDS = {
    "build": build,
    "post": post,
    "clone": clone,
    "templates": set_templates,
    "outgoing": outgoing,
}

if __name__ == "__main__":
    initialize(None, False)
    for step in json.loads(Path(sys.argv[1]).read_text()):
        COMMANDS[step["command"]](step)
