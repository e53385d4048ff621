"""The sample site: a list of every kind, mails of every shape.

Pure  values only
"""

from __future__ import annotations

from email.message import EmailMessage

from tests.mailman3.site import MailingList, Member, Notice, Post

HOST = "lists.example.org"
POSTER = "poster@example.org"

_HEADER = "list:member:regular:header"
_FOOTER = "list:member:regular:footer"


def _members(tag: str, count: int) -> list[Member]:
    names = ["", "Ann Example", "Jörg Müller", 'Eve "Quote" O\'Neil', "Имя Фамилия"]
    domains = ["example.com", "example.net", "example.de", "sub.example.org"]
    found = [
        Member(f"{tag}.m{number}@{domains[number % 4]}", names[number % 5], by_user=number % 7 == 3)
        for number in range(count)
    ]
    return [*found, Member(f"Mixed.Case.{tag}@Example.COM", "Mixed Case"), Member(POSTER, "The Poster")]


LISTS = [
    MailingList(f"plain@{HOST}", _members("plain", 25), display_name="Plain"),
    MailingList(
        f"decorated@{HOST}",
        _members("decorated", 5),
        display_name="Decorated",
        description="With header and footer",
        templates={_HEADER: "== $display_name: $description ==\n", _FOOTER: "-- \n$fqdn_listname\nthe end"},
    ),
    MailingList(
        f"individual@{HOST}",
        _members("individual", 5),
        display_name="Individual",
        personalize="individual",
        templates={_FOOTER: "for $user_email ($user_name, $user_language) as $user_delivered_to\n"},
    ),
    MailingList(
        f"full@{HOST}",
        _members("full", 4),
        display_name="Full",
        personalize="full",
        templates={_HEADER: "Dear $user_name_or_email,\n\n"},
    ),
    MailingList(
        f"deutsch@{HOST}",
        _members("deutsch", 4),
        display_name="Größe",
        language="de",
        templates={_FOOTER: "Abmelden für $display_name: überall\n"},
    ),
    MailingList(f"verp@{HOST}", _members("verp", 4), display_name="Verped"),
    MailingList(f"bare@{HOST}", _members("bare", 3), templates={_FOOTER: ""}),
]

VERP_INTERVAL = 3
POST_IDS = {item.name: VERP_INTERVAL if item.name.startswith("verp") else 1 for item in LISTS}


def _ascii(number: int, to: str) -> bytes:
    body = f"Line one of {number}\n.starts with a dot\n..two\n\nlast line without an end"
    return _mail("text/plain; charset=us-ascii", body.encode(), number, to)


def _utf8_quoted(number: int, to: str) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = f"Jörg <{POSTER}>", "Grüße aus Köln " * 8
    mail.set_content("Schöne Grüße\n" * 5, cte="quoted-printable")
    return _finished(mail, number, to)


def _utf8_base64(number: int, to: str) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = POSTER, "Привет"
    mail.set_content("Привет, мир\n" * 20, cte="base64")
    return _finished(mail, number, to)


def _latin1_raw(number: int, to: str) -> bytes:
    return _mail(
        "text/plain; charset=iso-8859-1\nContent-Transfer-Encoding: 8bit", "Fünf Öfen\n".encode("latin-1"), number, to
    )


def _alternative(number: int, to: str) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = POSTER, "two faces"
    mail.set_content("plain face\n")
    mail.add_alternative("<p>html face</p>\n", subtype="html")
    return _finished(mail, number, to)


def _attachment(number: int, to: str) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = POSTER, "with attachment"
    mail.set_content("see attachment\n")
    mail.add_attachment(bytes(range(256)) * 8, maintype="application", subtype="octet-stream", filename="ü.bin")
    return _finished(mail, number, to)


def _html(number: int, to: str) -> bytes:
    return _mail("text/html; charset=utf-8", "<p>nur HTML ü</p>\n".encode(), number, to)


def _flowed(number: int, to: str) -> bytes:
    return _mail("text/plain; charset=utf-8; format=flowed; delsp=yes", b"soft \nbreak\n", number, to)


def _mail(content_type: str, body: bytes, number: int, to: str) -> bytes:
    head = (
        f"From: The Poster <{POSTER}>\nTo: {to}\nBcc: secret@example.org\nSubject: post {number}\n"
        f"Message-ID: <post-{number}@posts.example.org>\nDate: Mon, 02 Mar 2026 10:00:00 +0000\nMIME-Version: 1.0\n"
        f"References: {' '.join(f'<reference-{n}@posts.example.org>' for n in range(12))}\n"
        f"Content-Type: {content_type}\n\n"
    )
    return head.encode() + body


def _finished(mail: EmailMessage, number: int, to: str) -> bytes:
    mail["To"] = to
    mail["Message-ID"] = f"<post-{number}@posts.example.org>"
    mail["Date"] = "Mon, 02 Mar 2026 10:00:00 +0000"
    return mail.as_bytes()


_SHAPES = [
    _ascii,
    _utf8_quoted,
    _utf8_base64,
    _latin1_raw,
    _alternative,
    _attachment,
    _html,
    _flowed,
]

_FEW = [_ascii, _utf8_base64, _alternative]  # for lists whose every copy is composed on its own

POSTS = [
    *(
        Post(item.name, shape(100 * place + number, item.name))
        for place, item in enumerate(LISTS)
        for number, shape in enumerate(_SHAPES if item.name.startswith(("plain", "decorated", "deutsch")) else _FEW)
    ),
    Post(
        LISTS[0].name,
        _ascii(9001, LISTS[0].name),
        recipients=["someone@example.com", "other@example.net"],
        metadata={"_plaintext": True, "nodecorate": True},
    ),
]

NOTICES = [
    Notice(LISTS[0].name, "ann@example.com", "A notice", "Something happened.\n"),
    Notice(LISTS[4].name, "joerg@example.de", "Größe", "Es ist etwas passiert: überall\n"),
]

MTA_SETTINGS = f"""\
verp_delivery_interval: {VERP_INTERVAL}
verp_personalized_deliveries: yes
max_recipients: 10
"""
