"""The wide sample site: lists of every kind, and mails of every kind (contents.py) to each of them.

Pure  values only
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tests.mailman3.contents import contents, unprocessed
from tests.mailman3.site import MailingList, Member, Notice, Post

HOST = "lists.example.org"
GONE = f"gone@{HOST}"
ARC = "ARC signing"
VERP_INTERVAL = 3

_HEADER = "list:member:regular:header"
_FOOTER = "list:member:regular:footer"
_BOTH = {_HEADER: "== $display_name: $description ==\n", _FOOTER: "-- \n$fqdn_listname $info\nthe end"}
_PERSONAL = "for $member <$user_email> ($user_name, $user_name_or_address, $user_language) as $user_delivered_to\n"

EXTRA_CONFIG = """\
[language.de]
description: German
charset: iso-8859-1
enabled: yes
[language.ru]
description: Russian
charset: utf-8
enabled: yes
[language.ja]
description: Japanese
charset: euc-jp
enabled: yes
"""

MTA_SETTINGS = f"""\
verp_delivery_interval: {VERP_INTERVAL}
verp_personalized_deliveries: yes
max_recipients: 10
"""

ARC_CONFIG = f"""\
[ARC]
enabled: yes
dmarc: no
dkim: no
authserv_id: {HOST}
trusted_authserv_ids: {HOST}
selector: throwaway
domain: {HOST}
privkey: {{key}}
"""


def _members(tag: str, count: int, digest: str = "") -> list[Member]:
    names = ["Jörg Müller", "", "Ann Example", 'Eve "Quote" O\'Neil', "Имя Фамилия"]
    domains = ["example.com", "example.net", "example.de", "sub.example.org"]
    return [
        Member(f"{tag}.m{number}@{domains[number % 4]}", names[number % 5], number % 3 == 1, digest)
        for number in range(count)
    ]


def _list(name: str, members: int, settings: Mapping[str, object] | None = None, **more: Any) -> MailingList:
    people = [*_members(name, members - 1), Member(f"Mixed.Case.{name}@Example.COM", "Mixed Case")]
    settings = {"digests_enabled": False, **(settings or {})}
    return MailingList(f"{name}@{HOST}", people, display_name=name.capitalize(), settings=settings, **more)


_KINDS: dict[str, MailingList] = {
    "bulk, Mailman's own footer": _list("plain", 12),
    "no header, no footer": _list("bare", 3, templates={_FOOTER: ""}),
    "header and footer": _list("decorated", 3, description="With both", info="Say hello", templates=_BOTH),
    "header and footer, non-ASCII text": _list(
        "accents", 3, description="für alle", templates={_HEADER: "Überschrift $description\n", _FOOTER: "— Fuß —\n"}
    ),
    "German, iso-8859-1": _list(
        "deutsch", 3, language="de", description="Größe", templates={_FOOTER: "Abmelden für $display_name: überall\n"}
    ),
    "Russian, utf-8": _list("poryadok", 3, language="ru", templates={_FOOTER: "Отписаться: $request_address\n"}),
    "Japanese, euc-jp": _list("nihon", 3, language="ja", templates={_FOOTER: "退会 $list_name\n"}),
    "personalised, individual": _list("individual", 3, personalize="individual", templates={_FOOTER: _PERSONAL}),
    "personalised, full": _list("full", 3, personalize="full", templates={_HEADER: "Dear $user_name_or_email,\n\n"}),
    "VERP by interval": _list("verp", 3),
    "VERP by metadata": _list("marked", 3, templates=_BOTH),
    "anonymous": _list("confide", 3, settings={"anonymous_list": True}),
    "DMARC, From munged": _list(
        "munged",
        3,
        settings={"dmarc_mitigate_action": "DMARCMitigateAction.munge_from", "dmarc_mitigate_unconditionally": True},
    ),
    "DMARC, wrapped": _list(
        "wrapped",
        3,
        settings={
            "dmarc_mitigate_action": "DMARCMitigateAction.wrap_message",
            "dmarc_mitigate_unconditionally": True,
            "dmarc_wrapped_message_text": "The original is attached.",
        },
        templates=_BOTH,
    ),
    "reply-to munged, Sender kept": _list(
        "replies", 3, settings={"reply_goes_to_list": "ReplyToMunging.point_to_list", "first_strip_reply_to": True}
    ),
}
_DIGESTS = [
    MailingList(
        f"{name}@{HOST}",
        [
            *_members(name, 4),
            *_members(f"{name}.mime", 2, "mime_digests"),
            *_members(f"{name}.text", 2, "plaintext_digests"),
        ],
        display_name=display,
        language=language,
        settings={"digests_enabled": True, "digest_size_threshold": 10_000},
        templates=_BOTH,
    )
    for name, display, language in (("weekly", "Weekly", "en"), ("woche", "Größe", "de"))
]
_METADATA = {"VERP by metadata": {"verp": True}}

LISTS = [*_KINDS.values(), *_DIGESTS]
POST_IDS = {item.name: VERP_INTERVAL if item.name.startswith("verp@") else 1 for item in LISTS}
CONTENT_KINDS = tuple(contents("x@example.org"))


def _special() -> list[Post]:
    """Entries whose metadata no post has by itself."""
    plain, decorated, full = (f"{name}@{HOST}" for name in ("plain", "decorated", "full"))
    mail = contents(plain)["UTF-8 in quoted-printable"]
    two = ["someone@example.com", "other@example.net"]

    def entry(kind: str, to: str, recipients: list[str], octets: bytes = mail, **metadata: Any) -> Post:
        return Post(to, octets, recipients, kind=kind, metadata=metadata)

    ascii_only = contents(plain)["leading dots"]
    return [
        entry("plain text pickle (_parsemsg)", plain, two, ascii_only, _plaintext=True, nodecorate=True),
        entry("plain text pickle, decorated", decorated, two, ascii_only, _plaintext=True),
        entry("plain text pickle, VERP", plain, two, ascii_only, _plaintext=True, verp=True),
        entry("reverse-path by metadata", plain, two, sender="probe+token@lists.example.org"),
        entry("reverse-path empty", plain, two, sender=""),
        entry("duplicate marked for some", full, two, mail, **{"add-dup-header": {"other@example.net": True}}),
        entry("VERP refused by metadata", f"verp@{HOST}", two, verp=False),
        entry("VERP of an unqualified recipient", plain, ["someone@example.com", "root"], verp=True),
        entry("VERP of odd addresses", plain, ["a+b=c@example.com", '"q p"@example.net', "x%y@example.org"], verp=True),
        entry("decoration data", decorated, two, mail, **{"decoration-data": {"info": "from the metadata"}}),
        entry("not decorated", decorated, two, nodecorate=True),
        entry("recipients who are no members", full, two),
        entry("only the Mail Archive", decorated, ["archive@mail-archive.com"]),
        entry("one recipient of a bulk list", plain, ["someone@example.com"]),
        entry(
            "hundred recipients",
            plain,
            [f"r{number}@sub{number % 7}.example.{'com net org'.split()[number % 3]}" for number in range(100)],
        ),
        entry("no recipients", plain, []),
        entry("language by metadata", f"deutsch@{HOST}", two, lang="en"),
        entry("list that is gone", GONE, two),
        *(entry(kind, decorated, two, octets) for kind, octets in unprocessed(decorated).items()),
        entry("SMTPUTF8 recipient", plain, ["jörg@bücher.example"]),
        entry("SMTPUTF8 recipient, VERP", plain, ["jörg@bücher.example"], verp=True),
        entry("no Message-ID, VERP", plain, two, contents(plain)["no Message-ID"], verp=True),
        entry("no Message-ID, personalised", full, two, contents(full)["no Message-ID"]),
    ]


_ALL_CONTENTS = "header and footer"


def posts(share: int) -> list[Post]:
    """Posts to all lists: to one every kind of content, to the others every `share`-th, each list another choice."""
    return [*_posts(share), *_POSTS]


def _posts(share: int) -> Iterator[Post]:
    for place, (of_list, item) in enumerate(_KINDS.items()):
        for number, (of_content, octets) in enumerate(contents(item.name).items()):
            if of_list == _ALL_CONTENTS or number % share == place % share:
                yield Post(item.name, octets, kind=f"{of_list}: {of_content}", metadata=_METADATA.get(of_list, {}))


LIST_KINDS = tuple(_KINDS)
UNUSUAL = _special()
_POSTS = [
    *(
        Post(item.name, contents(item.name)[kind], kind=f"list with digests: {kind}")
        for item in _DIGESTS
        for kind in (
            "plain ASCII",
            "UTF-8 in base64",
            "attachment",
            "RFC 2047 subject",
            "raw UTF-8 subject",
            "From lines",
        )
    ),
    *UNUSUAL,
]

NOTICES = [
    Notice(LISTS[0].name, "ann@example.com", "A notice", "Something happened.\n"),
    Notice(f"deutsch@{HOST}", "joerg@example.de", "Größe", "Es ist etwas passiert: überall\n"),
    Notice(f"nihon@{HOST}", "joe@example.de", "お知らせ", "何かが起こりました\n"),
    Notice(f"verp@{HOST}", "ann@example.com", "For one", "Through a list with VERP.\n"),
    Notice(f"full@{HOST}", "full.m0@example.com", "For a member", "Through a personalised list.\n"),
]
