"""Mails of every kind a list gets to see, each under the name of its kind.

Pure  values only

Written as octets, not by the email package: what is odd about them has to survive. `TO` stands for the list's address.
"""

from __future__ import annotations

import base64
import quopri

POSTER = "poster@example.org"
_AUTHENTICATED = f"Authentication-Results: lists.example.org; spf=pass smtp.mailfrom={POSTER}; arc=none"
_HTML = b"<html><body><p>Gr\xc3\xbc\xc3\x9fe &amp; more</p></body></html>\n"
_PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 6)
_ICS = b"BEGIN:VCALENDAR\nVERSION:2.0\nMETHOD:REQUEST\nBEGIN:VEVENT\nSUMMARY:Chor\nEND:VEVENT\nEND:VCALENDAR\n"


def _wrapped(octets: bytes, width: int = 76) -> bytes:
    return b"".join(octets[start : start + width] + b"\n" for start in range(0, len(octets), width))


def _base64(octets: bytes) -> bytes:
    return _wrapped(base64.b64encode(octets))


def _part(content_type: str, body: bytes, *fields: str) -> bytes:
    return "\n".join([f"Content-Type: {content_type}", *fields, "", ""]).encode() + body


def _multipart(boundary: str, *parts: bytes, preamble: bytes = b"", epilogue: bytes = b"") -> bytes:
    line = b"--" + boundary.encode()
    return preamble + b"".join(line + b"\n" + part + b"\n" for part in parts) + line + b"--\n" + epilogue


_TEXT = "text/plain; charset=us-ascii"
_UTF8 = "text/plain; charset=utf-8"
_QP = "Content-Transfer-Encoding: quoted-printable"
_B64 = "Content-Transfer-Encoding: base64"
_8BIT = "Content-Transfer-Encoding: 8bit"

_MANY_REFERENCES = "\n ".join(f"<reference-{number}-of-a-very-long-thread@posts.example.org>" for number in range(120))
_TWO_FACES = _multipart("alt", _part(_TEXT, b"plain face"), _part("text/html; charset=utf-8", _HTML))

_BODIES: dict[str, tuple[str, bytes]] = {
    "plain ASCII": (_TEXT, b"Line one\nlast line\n"),
    "no line end at the end": (_TEXT, b"Line one\nlast line without an end"),
    "empty body": (_TEXT, b""),
    "only blank lines": (_TEXT, b"\n\n\n"),
    "leading dots": (_TEXT, b".\n..two\n.starts with a dot\n\n.\n"),
    "From lines": (_TEXT, b"From the beginning\n\nFrom here on\n>From quoted\n"),
    "long lines": (_TEXT, b"x" * 1200 + b"\n" + b"word " * 700 + b"\n"),
    "CRLF and CR within": (_TEXT, b"one\r\ntwo\rthree\r\n"),
    "trailing blanks and tabs": (_TEXT, b"one \t\n  two\t \n\x0cthree\n"),
    "octet zero": (_TEXT, b"one\x00two\n"),
    "UTF-8 in quoted-printable": (f"{_UTF8}\n{_QP}", quopri.encodestring("Schöne Grüße = €\n".encode() * 4)),
    "UTF-8 in base64": (f"{_UTF8}\n{_B64}", _base64("Привет, мир\n".encode() * 20)),
    "UTF-8 in 8bit": (f"{_UTF8}\n{_8BIT}", "Fünf Öfen, 日本語\n".encode()),
    "Latin-1 in 8bit": (f"text/plain; charset=iso-8859-1\n{_8BIT}", "Fünf Öfen\n".encode("latin-1")),
    "Latin-1 in quoted-printable": (f"text/plain; charset=iso-8859-1\n{_QP}", b"F=FCnf =D6fen\n"),
    "windows-1252": (f"text/plain; charset=windows-1252\n{_QP}", b"=84so=93 =96 =80 5\n"),
    "KOI8-R": (f"text/plain; charset=koi8-r\n{_8BIT}", "Привет\n".encode("koi8-r")),
    "ISO-2022-JP": ("text/plain; charset=iso-2022-jp", "日本語のメール\n".encode("iso-2022-jp")),
    "Big5 in base64": (f"text/plain; charset=big5\n{_B64}", _base64("繁體中文\n".encode("big5"))),
    "UTF-16": (f"text/plain; charset=utf-16\n{_B64}", _base64("sechzehn\n".encode("utf-16"))),
    "UTF-7": ("text/plain; charset=utf-7", b"Hi Mom +Jjo-!\n"),
    "binary": ("text/plain; charset=utf-8\nContent-Transfer-Encoding: binary", "bin\xe4r\n".encode() + b"y" * 1500),
    "unknown charset": (f"text/plain; charset=x-klingon\n{_8BIT}", b"nuqneH \xff\n"),
    "unknown charset, ASCII": ("text/plain; charset=ansi_x3.110", b"nothing odd in it\n"),
    "empty charset": ("text/plain; charset=", b"hello\n"),
    "8bit said to be ASCII": (f"{_TEXT}\n{_8BIT}", b"na\xefve\n"),
    "UTF-8 said to be Latin-1": (f"text/plain; charset=iso-8859-1\n{_8BIT}", "Größe\n".encode()),
    "broken base64": (f"{_UTF8}\n{_B64}", b"SGVsbG8gV29ybGQ\n!!=\nabc\n"),
    "broken quoted-printable": (f"{_UTF8}\n{_QP}", b"=ZZ =C3 soft=\n end=\n"),
    "unknown transfer encoding": (f"{_UTF8}\nContent-Transfer-Encoding: x-uuencode-not", b"what now\n"),
    "upper case, quoted charset": ('TEXT/PLAIN; CHARSET="UTF-8"\nCONTENT-TRANSFER-ENCODING: 8BIT', "Öl\n".encode()),
    "format flowed, delsp": ("text/plain; charset=utf-8; format=flowed; delsp=yes", b"soft \nbreak\n> quoted \n"),
    "plain text as attachment": (f'{_TEXT}\nContent-Disposition: attachment; filename="a.txt"', b"attached\n"),
    "text/enriched": ("text/enriched; charset=us-ascii", b"<bold>enriched</bold>\n"),
    "HTML only": (f"text/html; charset=utf-8\n{_8BIT}", _HTML),
    "HTML in base64": (f"text/html; charset=utf-8\n{_B64}", _base64(_HTML)),
    "one image": (f'image/png; name="b.png"\n{_B64}', _wrapped(_PNG)),
    "calendar only": (f"text/calendar; charset=utf-8; method=REQUEST\n{_8BIT}", _ICS),
    "alternative": ('multipart/alternative; boundary="alt"', _TWO_FACES),
    "calendar in alternative": (
        'multipart/alternative; boundary="cal"',
        _multipart("cal", _part(_TEXT, b"come"), _part("text/calendar; charset=utf-8; method=REQUEST", _ICS)),
    ),
    "attachment": (
        'multipart/mixed; boundary="mixed"',
        _multipart(
            "mixed",
            _part(_TEXT, b"see attachment\n"),
            _part(
                "application/octet-stream", _wrapped(_PNG), _B64, 'Content-Disposition: attachment; filename="b.bin"'
            ),
        ),
    ),
    "attachment with RFC 2231 name": (
        "multipart/mixed; boundary=rfc2231",
        _multipart(
            "rfc2231",
            _part(_TEXT, b"see attachment"),
            _part(
                "application/pdf; name*0*=utf-8''%C3%9Cber; name*1=lang.pdf",
                _wrapped(_PNG),
                _B64,
                "Content-Disposition: attachment;\n filename*=utf-8''%C3%9Cberlang.pdf",
            ),
        ),
    ),
    "patch": (
        "multipart/mixed; boundary=patch",
        _multipart(
            "patch", _part(_TEXT, b"a fix"), _part("text/x-patch", b"--- a\n+++ b\n@@ -1 +1 @@\n-From x\n+.y\n")
        ),
    ),
    "related": (
        'multipart/related; boundary="rel"',
        _multipart("rel", _part("text/html", _HTML), _part("image/png", _wrapped(_PNG), _B64, "Content-ID: <a@b>")),
    ),
    "nested multiparts": (
        'multipart/mixed; boundary="outer"',
        _multipart(
            "outer",
            _part(
                'multipart/related; boundary="inner"',
                _multipart(
                    "inner", _part('multipart/alternative; boundary="alt"', _TWO_FACES), _part("image/png", b"")
                ),
            ),
            _part(_TEXT, b"after it all"),
        ),
    ),
    "mixed of one part": ("multipart/mixed; boundary=one", _multipart("one", _part(_UTF8, "Öl".encode(), _8BIT))),
    "preamble and epilogue": (
        "multipart/mixed; boundary=pre",
        _multipart("pre", _part(_TEXT, b"text"), preamble=b"not for you\n", epilogue=b"nor this\n"),
    ),
    "no boundary parameter": ("multipart/mixed", b"--lost\n\ntext\n--lost--\n"),
    "boundary that never comes": ("multipart/mixed; boundary=never", b"just text\n"),
    "no closing boundary": ("multipart/mixed; boundary=open", b"--open\nContent-Type: text/plain\n\ntext\n"),
    "boundary with odd characters": (
        'multipart/mixed; boundary="=_(a)\'+_,-./:=? b"',
        _multipart("=_(a)'+_,-./:=? b", _part(_TEXT, b"text"), _part(_TEXT, b"more")),
    ),
    "signed": (
        'multipart/signed; micalg=pgp-sha512; protocol="application/pgp-signature"; boundary="sig"',
        _multipart(
            "sig",
            _part(_TEXT, b"signed text  \n-- \nPoster\n"),
            _part('application/pgp-signature; name="signature.asc"', b"-----BEGIN PGP SIGNATURE-----\n\niQ==\n"),
        ),
    ),
    "encrypted": (
        'multipart/encrypted; protocol="application/pgp-encrypted"; boundary="enc"',
        _multipart(
            "enc",
            _part("application/pgp-encrypted", b"Version: 1\n"),
            _part("application/octet-stream", b"-----BEGIN PGP MESSAGE-----\n\nhQ==\n"),
        ),
    ),
    "forwarded message": (
        "multipart/mixed; boundary=fwd",
        _multipart(
            "fwd",
            _part(_TEXT, b"fyi"),
            _part("message/rfc822", b"From: a@example.net\nSubject: =?utf-8?q?=C3=96l?=\n\nFrom the inside\n"),
        ),
    ),
    "message/rfc822 only": ("message/rfc822", b"From: a@example.net\nSubject: inner\n\nbody of the inner one\n"),
    "delivery report": (
        "multipart/report; report-type=delivery-status; boundary=dsn",
        _multipart(
            "dsn",
            _part(_TEXT, b"it failed"),
            _part(
                "message/delivery-status", b"Reporting-MTA: dns; mx\n\nFinal-Recipient: rfc822; a@b\nAction: failed\n"
            ),
        ),
    ),
    "multipart/digest": (
        "multipart/digest; boundary=dig",
        _multipart("dig", b"\nSubject: one\n\nfirst\n", b"\nSubject: two\n\nsecond\n"),
    ),
}
"""Kind of body = Content-Type with what follows it, and the body."""

_HEADS: dict[str, tuple[str, ...]] = {
    "very long References": (f"References: {_MANY_REFERENCES}",),
    "References on one line": (f"References: {_MANY_REFERENCES.replace(chr(10), '')}",),
    "field that cannot be folded": ("X-Long: " + "x" * 900,),
    "folded with tabs": ("X-Folded: one\n\ttwo\n   three\n\t \tfour",),
    "repeated fields": ("X-Twice: one", "X-Twice: two", "To: other@example.org", "Cc: TO", "Subject: a second one"),
    "empty fields": ("X-Empty:", "X-Blank:  ", "Comments:\n blank first line"),
    "RFC 2047 subject": ("Subject: =?utf-8?b?R3LDvMOfZSBhdXM=?= =?iso-8859-1?q?_K=F6ln?= and more",),
    "long RFC 2047 subject": ("Subject: " + "\n ".join(["=?utf-8?q?Gr=C3=BC=C3=9Fe_aus_der_Ferne?="] * 12),),
    "raw UTF-8 subject": ("Subject: Grüße aus Köln",),
    "raw UTF-8 fields": ("X-Ort: Köln am Rhein", "From: Jörg Müller <POSTER>", "Organization: Größe"),
    "non-ASCII name": (
        "From: =?utf-8?q?J=C3=B6rg_M=C3=BCller?= <POSTER>",
        "Reply-To: =?koi8-r?b?6c3R?= <r@example.net>",
    ),
    "SMTPUTF8 author": ("From: Jörg <jörg@bücher.example>", "Sender: jörg@bücher.example"),
    "DKIM signature": ("DKIM-Signature: v=1; a=rsa-sha256; d=example.org; s=x;\n\tbh=47DEQ==; h=From:To; b=abc=",),
    "many Received": tuple(f"Received: from a{n} by b{n};\n\tMon, 2 Mar 2026 10:00:0{n} +0000" for n in range(8)),
    "several authors": (
        "From: POSTER, Second <second@example.net>",
        "Sender: POSTER",
        "Reply-To: a@b.example, c@d.example",
    ),
    "addresses with comments": ('From: "O\'Neil, \\"Q\\"" <POSTER> (at home)', "Cc: Undisclosed recipients:;"),
    "threaded reply": ("Subject: Re: Re: [List] AW: thing", "In-Reply-To: <first@posts.example.org>"),
    "list fields of another list": (
        "List-Id: <other.example.net>",
        "List-Post: <mailto:o@example.net>",
        "Precedence: list",
    ),
}
"""Kind of head = fields that come before those every mail has; a field they name takes their place."""

_UNPROCESSED: dict[str, tuple[str, ...]] = {
    "broken RFC 2047 subject": ("Subject: =?utf-8?b?w7w?= =?utf-8?q?=FF?= =?utf-8?q?open",),
    "SMTPUTF8 addresses in Cc": ("Cc: π@example.org, 用户@例子.example",),
    "RFC 2047 subject in an unknown charset": ("Subject: =?nonsense?q?x?=",),
}
"""Heads whose posts Mailman's pipeline shunts before they come to out/."""

_MISSING = {"no Message-ID": "Message-ID", "no Subject": "Subject", "no Date": "Date", "no MIME fields": "MIME-Version"}


def _mail(fields: list[str], body: bytes, to: str) -> bytes:
    head = "\n".join(fields).replace("TO", to).replace("POSTER", POSTER)
    return head.encode() + b"\n\n" + body


def _fields(number: int, special: tuple[str, ...] = (), missing: str = "") -> list[str]:
    usual = {
        "From": "The Poster <POSTER>",
        "To": "TO",
        "Subject": f"post {number}",
        "Message-ID": f"<post-{number}.TO>",
        "Date": "Mon, 02 Mar 2026 10:00:00 +0000",
        "MIME-Version": "1.0",
    }
    replaced = {field.partition(":")[0] for field in special} - {"To", "Cc"}
    kept = [f"{name}: {value}" for name, value in usual.items() if name not in {*replaced, missing}]
    return [_AUTHENTICATED, *special, *kept]


def contents(to: str) -> dict[str, bytes]:
    """Kind of content = a mail of that kind to a list; Message-IDs differ between kinds and between lists."""
    found: dict[str, bytes] = {}
    for kind, (content_type, body) in _BODIES.items():
        found[kind] = _mail([*_fields(len(found)), f"Content-Type: {content_type}"], body, to)
    for kind, special in _HEADS.items():
        found[kind] = _mail([*_fields(len(found), special), f"Content-Type: {_TEXT}"], b"short body\n", to)
    for kind, missing in _MISSING.items():
        found[kind] = _mail(_fields(len(found), missing=missing), b"short body\n", to)
    found["raw Latin-1 subject"] = found["raw UTF-8 subject"].replace(
        "Grüße aus Köln".encode(), b"Gr\xfc\xdfe aus K\xf6ln"
    )
    found["Unix From line"] = b"From poster@example.org Mon Mar  2 10:00:00 2026\n" + found["plain ASCII"]
    for again in ("raw Latin-1 subject", "Unix From line"):
        found[again] = found[again].replace(b"Message-ID: <post-", b"Message-ID: <post-again-")
    return found


def unprocessed(to: str) -> dict[str, bytes]:
    """Kinds of mail that come to out/ by other ways than Mailman's pipeline only, which trips over them."""
    return {
        kind: _mail([*_fields(900 + number, special), f"Content-Type: {_TEXT}"], b"short body\n", to)
        for number, (kind, special) in enumerate(_UNPROCESSED.items())
    }
