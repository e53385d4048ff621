"""Makes tests/samples/mailman3: entries that a genuine Mailman 3 put in its out queue. Run with Mailman's own Python:

    .venv-mailman3/bin/python tests/samples/make_mailman3.py tests/samples/mailman3

A site is made in a temporary directory; raw mails go into the `in` queue as Mailman's LMTP runner puts them there; its
own incoming, pipeline, virgin and digest runners do the rest. What is not made by them says so in labels.json.
"""

import email
import json
import os
import pickle
import pickletools
import shutil
import sys
import tempfile
from pathlib import Path

HERE = Path(tempfile.mkdtemp(prefix="mailman3-samples-"))
TARGET = Path(sys.argv[1])
CONFIG = f"""
[mailman]
site_owner: owner@example.org
layout: here
[paths.here]
var_dir: {HERE}/var
template_dir: $var_dir/templates
[mta]
incoming: mailman.mta.null.NullMTA
[database]
url: sqlite:///{HERE}/var/data/mailman.db
[archiver.prototype]
enable: no
"""
(HERE / "var" / "data").mkdir(parents=True)
(HERE / "mailman.cfg").write_text(CONFIG)

from mailman.core.initialize import initialize  # noqa: E402

initialize(str(HERE / "mailman.cfg"))

from mailman.app.lifecycle import create_list  # noqa: E402
from mailman.app.moderator import handle_message  # noqa: E402
from mailman.config import config  # noqa: E402
from mailman.core.switchboard import Switchboard  # noqa: E402
from mailman.database.transaction import transaction  # noqa: E402
from mailman.email.message import Message, OwnerNotification, UserNotification  # noqa: E402
from mailman.interfaces.action import Action  # noqa: E402
from mailman.interfaces.digests import DigestFrequency  # noqa: E402
from mailman.interfaces.domain import IDomainManager  # noqa: E402
from mailman.interfaces.languages import ILanguageManager  # noqa: E402
from mailman.interfaces.mailinglist import DMARCMitigateAction, Personalization, SubscriptionPolicy  # noqa: E402
from mailman.interfaces.member import DeliveryMode, MemberRole  # noqa: E402
from mailman.interfaces.requests import IListRequests  # noqa: E402
from mailman.interfaces.usermanager import IUserManager  # noqa: E402
from mailman.app.digests import maybe_send_digest_now  # noqa: E402
from mailman.runners.digest import DigestRunner  # noqa: E402
from mailman.runners.incoming import IncomingRunner  # noqa: E402
from mailman.runners.pipeline import PipelineRunner  # noqa: E402
from mailman.runners.virgin import VirginRunner  # noqa: E402
from mailman.testing.helpers import make_testable_runner  # noqa: E402
from mailman.utilities.datetime import now  # noqa: E402
from zope.component import getUtility  # noqa: E402

RUNNERS = [(IncomingRunner, "in"), (PipelineRunner, "pipeline"), (DigestRunner, "digest"), (VirginRunner, "virgin"),
           (PipelineRunner, "pipeline")]  # fmt: skip
labels = {}


def mail(number, subject, body, *, headers="", sender="reader001@post.example.com", to="kites"):
    return (
        f"From: {sender}\nTo: {to}@example.org\nSubject: {subject}\nMessage-ID: <m{number}.sample@post.example.com>\n"
        f"Date: Sun, 1 Nov 2026 10:{number:02d}:00 +0000\n{headers}\n"
    ).encode("latin-1") + body


def site():
    with transaction():
        getUtility(IDomainManager).add("example.org")
        users = getUtility(IUserManager)
        german = getUtility(ILanguageManager).get("de")
        for name, count in (("kites", 20), ("orchard", 3), ("confide", 5), ("bigpost", 1200), ("munged", 4)):
            mlist = create_list(f"{name}@example.org", ["owner@example.org"])
            mlist.send_welcome_message = False
            mlist.subscription_policy = SubscriptionPolicy.open
            mlist.display_name = name.title()
            mlist.subject_prefix = "" if name == "bigpost" else f"[{name.title()}] "
            for i in range(count):
                text = f"Reader{i:03d}@Post.Example.com" if i % 7 == 3 else f"reader{i:03d}@post.example.com"
                address = users.get_address(text) or users.create_address(text, f"Réader {i}")
                address.verified_on = now()
                member = mlist.subscribe(address)
                if name == "kites" and i in (17, 18):
                    member.preferences.delivery_mode = (
                        DeliveryMode.mime_digests if i == 17 else DeliveryMode.plaintext_digests
                    )
            if name == "orchard":
                mlist.personalize = Personalization.full
                if german is not None:
                    mlist.preferred_language = german
            mlist.anonymous_list = name == "confide"
            if name == "munged":
                mlist.dmarc_mitigate_action = DMARCMitigateAction.wrap_message
                mlist.dmarc_mitigate_unconditionally = True
            mlist.digest_volume_frequency = DigestFrequency.monthly


def run(*, only=None):
    for runner, queue in RUNNERS:
        if only is None or queue in only:
            make_testable_runner(runner, queue).run()


def collect(case, note, made_by="incoming and pipeline runners"):
    """Move what is in out/ to the samples, with what genuine code reads from it."""
    out = config.switchboards["out"]
    for number, filebase in enumerate(out.files):
        source = Path(out.queue_directory) / f"{filebase}.pck"
        raw = source.read_bytes()
        name = f"{case}-{number}" if number else case
        with source.open("rb") as file:
            message, metadata = pickle.load(file), pickle.load(file)
        parsed = email.message_from_string(message, Message) if isinstance(message, str) else message
        labels[source.name] = {
            "case": name,
            "note": note,
            "made_by": made_by,
            "listid": metadata.get("listid"),
            "recipients": sorted(metadata["recipients"]) if "recipients" in metadata else None,
            "message_id": parsed.get("message-id"),
            "subject": str(email.header.make_header(email.header.decode_header(parsed["subject"]))),
            "metadata_types": {key: type(value).__name__ for key, value in sorted(metadata.items())},
            "metadata": {
                key: value if isinstance(value, bool | int | float | str | None) else str(value)
                for key, value in sorted(metadata.items())
                if not isinstance(value, set)
            },
            "globals": sorted(set(names(raw))),
            "leaf_bodies": [
                (part.get_payload(decode=True) or b"").decode("latin-1") for part in parsed.walk()
                if not part.is_multipart()
            ],
        }  # fmt: skip
        shutil.move(source, TARGET / source.name)


def names(raw):
    texts, memo, start = [], {}, 0
    for _ in range(2):
        memo.clear()
        last = None
        for opcode, argument, pos in pickletools.genops(raw[start:]):
            if opcode.name in ("GLOBAL", "INST"):
                yield argument
            elif opcode.name == "STACK_GLOBAL":
                yield " ".join(texts[-2:])
            elif "UNICODE" in opcode.name:
                last = argument
                texts.append(argument)
            elif opcode.name == "MEMOIZE":
                memo[len(memo)] = last
            elif opcode.name in ("BINGET", "LONG_BINGET") and isinstance(memo.get(argument), str):
                texts.append(memo[argument])
            if opcode.name not in ("MEMOIZE",) and "UNICODE" not in opcode.name:
                last = None
        start += pos + 1


def post(case, note, raw, listname="kites", *, recovered=False):
    message = email.message_from_bytes(raw, Message)
    message.original_size = len(raw)
    config.switchboards["in"].enqueue(
        message, listid=f"{listname}.example.org", original_size=len(raw), received_time=now(), to_list=True
    )
    run(only=("in", "pipeline"))
    if recovered:
        recover()
    collect(case, note)


def recover():
    """Claim the only entry in out/, then give it back as a restarted runner does."""
    out = config.switchboards["out"]
    out.dequeue(out.files[0])
    Switchboard("out", out.queue_directory, recover=True)


MULTIPART = b"""--x
Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: 8bit

Gr\xc3\xbc\xc3\x9fe
--x
Content-Type: image/png; name=a.png
Content-Transfer-Encoding: base64

iVBORw0KGgoAAAANSUhEUg==
--x
Content-Type: message/rfc822

From: inner@example.com
Subject: inner

inner body
--x--
"""


def cases():
    post("ascii_plain", "20 members, prefix", mail(1, "Wind tomorrow", b"Bring string.\n"))
    post("utf8_8bit", "8-bit body", mail(2, "=?utf-8?q?caf=C3=A9?= time", "Grüße ☃\n".encode(),
         headers="Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n"))  # fmt: skip
    post("raw_8bit_headers", "latin-1 bytes in a header", mail(3, "Gr\xfc\xdfe", b"Body.\n"))
    post("recovered_header_in_metadata", "original_subject is a Header, written again in protocol 1",
         mail(3, "Gr\xfc\xdfe", b"Body.\n"), recovered=True)  # fmt: skip
    post("raw_8bit_subject_no_prefix", "latin-1 subject where no prefix is added", mail(4, "Gr\xfc\xdfe", b"x\n",
         to="bigpost"), "bigpost")  # fmt: skip
    post("multipart", "attachment and forwarded mail", mail(5, "Plans", MULTIPART,
         headers="MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n"))  # fmt: skip
    post("multipart_no_boundary", "defects", mail(6, "Broken", b"--y\n\nno end\n",
         headers="MIME-Version: 1.0\nContent-Type: multipart/mixed\n"))  # fmt: skip
    post("multipart_unclosed", "defects", mail(7, "Unclosed", MULTIPART[:-6],
         headers="MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=x\n"))  # fmt: skip
    post("bad_base64", "a body that is no base64", mail(8, "b64", b"!!!not base64\n",
         headers="Content-Transfer-Encoding: base64\n"))  # fmt: skip
    post("personalized", "To personalised, German", mail(9, "Obst", b"Pflaumen.\n", to="orchard"), "orchard")
    post("anonymous", "anonymous list", mail(10, "Secret", b"Who?\n", to="confide"), "confide")
    post("big", "1,200 recipients", mail(11, "Crates", b"Take one.\n", to="bigpost"), "bigpost")
    post("wrapped", "DMARC mitigation by wrapping", mail(12, "Wrapped", b"Inside.\n", to="munged"), "munged")

    with transaction():
        maybe_send_digest_now(mlist("kites"), force=True)
    run(only=("digest",))
    run(only=("virgin", "pipeline"))
    collect("digest", "MIME and plain-text digest", "digest and virgin runners")

    with transaction():
        mlist("kites").emergency = True
    post("never", "held", mail(13, "Held a while", b"Please.\n"))
    run(only=("virgin", "pipeline"))
    collect("owner_notice", "a post waits for the owners", "virgin runner")
    with transaction():
        mlist("kites").emergency = False
        requests = IListRequests(mlist("kites"))
        for request in list(requests.held_requests):
            handle_message(mlist("kites"), request.id, Action.accept)
    run(only=("in", "pipeline"))
    collect("accepted", "held, then accepted by an owner", "moderator, then incoming and pipeline runners")

    with transaction():
        UserNotification("ann@example.com", "kites-request@example.org", "Schöner Gruß", "Guten Tag, Ännchen\n",
                         getUtility(ILanguageManager)["en"]).send(mlist("kites"))  # fmt: skip
        OwnerNotification(mlist("kites"), "Look at this", "Something\n",
                          mlist("kites").owners).send(mlist("kites"))  # fmt: skip
    run(only=("virgin", "pipeline"))
    collect("notice", "UserNotification and OwnerNotification", "virgin runner")

    out = config.switchboards["out"]
    out.enqueue(mail(14, "As text", b"Plain.\n").decode(), listid="kites.example.org", recipients={"ann@example.com", "bob@example.com"},
        received_time=now(), _plaintext=True)  # fmt: skip
    collect("plaintext", "_parsemsg True, both pickles in protocol 0", "Switchboard.enqueue on the out queue")
    out.enqueue("Subject: Grüße\nMessage-ID: <m15.sample@post.example.com>\n\nÄpfel\n", listid="kites.example.org",
                recipients={"ann@example.com"}, _plaintext=True)  # fmt: skip
    collect("plaintext_unicode", "_parsemsg True, genuine unicode", "Switchboard.enqueue on the out queue")
    out.enqueue(email.message_from_bytes(mail(16, "Nobody", b"x\n"), Message), listid="kites.example.org",
                recipients=set(), received_time=now())  # fmt: skip
    collect("no_recipients", "an empty set", "Switchboard.enqueue on the out queue")
    out.enqueue(email.message_from_bytes(mail(17, "A list", b"x\n"), Message), listid="kites.example.org",
                recipients=["zoe@example.com", "ann@example.com", "zoe@example.com"])  # fmt: skip
    collect("recipients_list", "recipients as AvoidDuplicates leaves them: a list", "Switchboard.enqueue on the out queue")

    for case, plaintext in (("recovered", False), ("recovered_plaintext", True)):
        raw = mail(18 + plaintext, "Recovered", b"x\n")
        out.enqueue(raw.decode() if plaintext else email.message_from_bytes(raw, Message),
                               listid="kites.example.org", recipients={f"r{i}@example.com" for i in range(30)},
                               received_time=now(), _plaintext=plaintext)  # fmt: skip
        recover()
        collect(case, "claimed, then recovered: metadata written again with _bak_count, protocol 1 or 0",
                "Switchboard.enqueue, dequeue and recover_backup_files")  # fmt: skip


def mlist(name):
    from mailman.interfaces.listmanager import IListManager

    return getUtility(IListManager).get(f"{name}@example.org")


TARGET.mkdir(exist_ok=True)
for old in TARGET.glob("*.pck"):
    old.unlink()
site()
cases()
(TARGET / "labels.json").write_text(json.dumps(labels, indent=1, sort_keys=True, ensure_ascii=True) + "\n")
for queue, switchboard in config.switchboards.items():
    if switchboard.files and queue not in ("archive", "nntp"):
        print("left in", queue, len(switchboard.files), os.listdir(switchboard.queue_directory))
print(len(labels), "entries")
shutil.rmtree(HERE)
os._exit(0)
