"""The names that a pickle of Mailman's may use, each with its reason; every other name is refused.

In    the (module, name) a pickle gives
Out   the inert class or constructor that takes its place
Pure  a table; nothing of Mailman's or email's is imported

No prefix, no pattern, no dotted name: a pair is on the list or it is not. Where the reason names a file, the name was
found in entries under tests/samples; "protocol 0/1" names come up when Mailman 3 counts a recovery (`_bak_count`),
which rewrites the metadata in protocol 1, and in entries enqueued as plain text.
"""

from __future__ import annotations

from collections.abc import Callable

from drainer.pickles.standins import (
    Charset,
    Header,
    InertObject,
    Message,
    Opaque,
    StandIn,
    inert_bytes,
    inert_datetime,
    inert_encode,
    inert_frozenset,
    inert_reconstructor,
    inert_set,
    stand_in,
)

_CLASSES: dict[type[StandIn], tuple[tuple[str, str], ...]] = {
    Message: (
        # Mailman 2.1: posts; notices to a member; notices to the owners (MAILMAN21.md §2)
        ("Mailman.Message", "Message"),
        ("Mailman.Message", "UserNotification"),
        ("Mailman.Message", "OwnerNotification"),
        # Mailman 3: posts; notices; notices to the owners; digests
        ("mailman.email.message", "Message"),
        ("mailman.email.message", "UserNotification"),
        ("mailman.email.message", "OwnerNotification"),
        ("mailman.email.message", "MultipartDigestMessage"),
        # parts that Mailman or a pipeline handler made itself: digests, forwards, probes, headers and footers
        ("email.message", "Message"),
        ("email.mime.base", "MIMEBase"),
        ("email.mime.nonmultipart", "MIMENonMultipart"),
        ("email.mime.multipart", "MIMEMultipart"),
        ("email.mime.message", "MIMEMessage"),
        ("email.mime.text", "MIMEText"),
        ("email.mime.application", "MIMEApplication"),
        ("email.mime.image", "MIMEImage"),
        ("email.mime.audio", "MIMEAudio"),
        # the mails inside a Mailman 3 MIME digest, as they come out of the list's digest.mmdf
        ("mailbox", "MMDFMessage"),
        # the same under the names the email package had before Python 2.5
        ("email.Message", "Message"),
        ("email.MIMEBase", "MIMEBase"),
        ("email.MIMENonMultipart", "MIMENonMultipart"),
        ("email.MIMEMultipart", "MIMEMultipart"),
        ("email.MIMEMessage", "MIMEMessage"),
        ("email.MIMEText", "MIMEText"),
        ("email.MIMEImage", "MIMEImage"),
        ("email.MIMEAudio", "MIMEAudio"),
    ),
    # a Subject with a prefix is a Header, in the message and as 2.1's `stripped_subject`
    Header: (("email.header", "Header"), ("email.Header", "Header")),
    # every chunk of a Header has one, and `_charset` of a message whose text Mailman set
    Charset: (("email.charset", "Charset"), ("email.Charset", "Charset")),
    Opaque: (
        # `policy` of every Mailman 3 message
        ("email._policybase", "Compat32"),
        # `defects` of a message that was not quite well-formed; all that the email packages of Python 2.5 to 3.13 define
        *(
            (module, name)
            for module in ("email.errors", "email.Errors")
            for name in (
                "BoundaryError",
                "CharsetError",
                "CloseBoundaryNotFoundDefect",
                "FirstHeaderLineIsContinuationDefect",
                "HeaderDefect",
                "HeaderMissingRequiredValue",
                "HeaderParseError",
                "InvalidBase64CharactersDefect",
                "InvalidBase64LengthDefect",
                "InvalidBase64PaddingDefect",
                "InvalidDateDefect",
                "InvalidHeaderDefect",
                "InvalidMultipartContentTransferEncodingDefect",
                "MalformedHeaderDefect",
                "MessageDefect",
                "MisplacedEnvelopeHeaderDefect",
                "MissingHeaderBodySeparatorDefect",
                "MultipartInvariantViolationDefect",
                "NoBoundaryInMultipartDefect",
                "NonASCIILocalPartDefect",
                "NonPrintableDefect",
                "ObsoleteHeaderDefect",
                "StartBoundaryNotFoundDefect",
                "UndecodableBytesDefect",
            )
        ),
        # values of `bounce_info` in a 2.1 list's config.pck
        ("Mailman.Bouncer", "_BounceInfo"),
        # `received_time` of an entry with a time zone
        ("datetime", "timezone"),
        ("datetime", "timedelta"),
    ),
}

_CONSTRUCTORS: dict[tuple[str, str], Callable[..., object]] = {
    ("datetime", "datetime"): inert_datetime,  # Mailman 3 `received_time`
    ("builtins", "set"): inert_set,  # `recipients`, protocol 3
    ("__builtin__", "set"): inert_set,  # `recipients`, protocol 0/1
    ("builtins", "frozenset"): inert_frozenset,
    ("__builtin__", "frozenset"): inert_frozenset,
    ("_codecs", "encode"): inert_encode,  # bytes inside a datetime, protocol 0/1
    # a Header as `original_subject` of a recovered entry, protocol 0/1
    ("copy_reg", "_reconstructor"): inert_reconstructor,
    ("__builtin__", "object"): InertObject,
    ("__builtin__", "bytes"): inert_bytes,  # empty bytes, protocol 0/1
}

ALLOWED: dict[tuple[str, str], Callable[..., object]] = {
    (module, name): stand_in(kind, module, name) for kind, names in _CLASSES.items() for module, name in names
} | _CONSTRUCTORS
