"""Settings of Mailman 2.1 that matter to delivery: those of the site (mm_cfg.py) and those of a list (config.pck).

In    values that differ from Mailman's defaults; the inert dictionary of a config.pck
Out   SiteSettings, ListSettings
Pure  values only

Text of a list keeps its pickled form: byte strings are ASCII with surrogates, unicode is unchanged.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from drainer.errors import ListConfigUnreadable, SettingsError

LANGUAGE_CHARSETS: Mapping[str, str] = {
    **dict.fromkeys("ast da de es fi fr it nl no pt pt_BR sv".split(), "iso-8859-1"),
    **dict.fromkeys("cs hr hu pl sl".split(), "iso-8859-2"),
    **dict.fromkeys("et eu ia".split(), "iso-8859-15"),
    **dict.fromkeys("ar ca eo fa gl he ro ru sk sr uk vi zh_CN zh_TW".split(), "utf-8"),
    "el": "iso-8859-7", "en": "us-ascii", "ja": "euc-jp", "ko": "euc-kr", "lt": "iso-8859-13", "tr": "iso-8859-9",
}  # fmt: skip
_WITHOUT_CLOSING_LINE = (
    2,
    7,
    3,
)  # the latest known to write none; where between it and 2.7.18 that changed is not known
_LANGUAGE_PREFIX = "LANGUAGE_CHARSET_"


@dataclass(frozen=True, slots=True)
class SiteSettings:
    """Values of mm_cfg.py; the defaults are those of Mailman 2.1.39.

    closing_line       a line end is written after the closing boundary of a multipart without epilogue. An early Python
                       does not: PYTHON = "2.7.3" in the settings
    language_charsets  charset of each language; LANGUAGE_CHARSET_<language> in the settings changes or adds one, like
                       add_language() in mm_cfg.py
    """

    verp_format: str = "%(bounces)s+%(mailbox)s=%(host)s"
    smtp_max_rcpts: int = 500
    rcpt_base64_header_name: str = ""
    cgiext: str = ""
    default_server_language: str = "en"
    closing_line: bool = True
    language_charsets: Mapping[str, str] = field(default_factory=lambda: dict(LANGUAGE_CHARSETS))

    def charset(self, language: str) -> str:
        """The charset of a language; for a language unknown to Mailman, that of the server's language."""
        known = self.language_charsets
        return known.get(language) or known.get(self.default_server_language) or "us-ascii"


_PLAIN = ("VERP_FORMAT", "RCPT_BASE64_HEADER_NAME", "CGIEXT", "DEFAULT_SERVER_LANGUAGE")


def site_settings(values: Mapping[str, str | int | float | bool]) -> SiteSettings:
    """The site's settings, from `mailman.settings`. Names may be in any case; names without meaning here are ignored.

    Raises  SettingsError with the key, the value and what would be right
    """
    known = {name.upper(): value for name, value in values.items()}
    changed: dict[str, str] = {}
    for name in _PLAIN:
        if name not in known:
            continue
        value = known[name]
        if not isinstance(value, str):
            raise SettingsError(f"mailman.settings.{name} = {value!r} is not text; right would be text as in mm_cfg.py")
        changed[name.lower()] = value
    most = known.get("SMTP_MAX_RCPTS", SiteSettings().smtp_max_rcpts)
    if isinstance(most, bool) or not isinstance(most, int):
        raise SettingsError(f"mailman.settings.SMTP_MAX_RCPTS = {most!r} is not a number; right would be 500")
    closing_line = _python_version(known.get("PYTHON", "2.7.18")) > _WITHOUT_CLOSING_LINE
    site = SiteSettings(smtp_max_rcpts=most, closing_line=closing_line, language_charsets=_charsets(values), **changed)
    try:
        expanded = site.verp_format % {"bounces": "bounces", "mailbox": "mailbox", "host": "host"}
    except (KeyError, ValueError, TypeError):
        expanded = ""
    if not expanded:
        raise SettingsError(
            f"mailman.settings.VERP_FORMAT = {site.verp_format!r} cannot be filled in; "
            "right would be '%(bounces)s+%(mailbox)s=%(host)s'"
        )
    return site


def _python_version(value: object) -> tuple[int, ...]:
    if isinstance(value, str) and re.fullmatch(r"2(\.[0-9]+){1,2}", value):
        return tuple(int(number) for number in value.split("."))
    raise SettingsError(f'mailman.settings.PYTHON = {value!r} is not a version of Python 2; right would be "2.7.18"')


def _charsets(values: Mapping[str, str | int | float | bool]) -> Mapping[str, str]:
    charsets = dict(LANGUAGE_CHARSETS)
    for name, value in values.items():
        if name.upper().startswith(_LANGUAGE_PREFIX):
            charsets[name[len(_LANGUAGE_PREFIX) :]] = str(value)
    return charsets


@dataclass(frozen=True, slots=True)
class ListSettings:
    """The settings of a list that delivery needs.

    internal_name  the name of its directory
    members        regular members: lower-case address to the address as the member wrote it
    digest_members likewise
    language, usernames, passwords   by lower-case address
    is_extended    the list has an extend.py: the members may come from elsewhere, and the fields above may be wrong
    """

    internal_name: str
    real_name: str = ""
    host_name: str = ""
    web_page_url: str = ""
    description: str = ""
    info: str = ""
    msg_header: str = ""
    msg_footer: str = ""
    personalize: int = 0
    include_sender_header: bool = True
    preferred_language: str = "en"
    available_languages: tuple[str, ...] = ()
    use_dollar_strings: bool = False
    members: Mapping[str, object] = field(default_factory=dict)
    digest_members: Mapping[str, object] = field(default_factory=dict)
    language: Mapping[str, object] = field(default_factory=dict)
    usernames: Mapping[str, object] = field(default_factory=dict)
    passwords: Mapping[str, object] = field(default_factory=dict)
    is_extended: bool = False

    def is_member(self, address: str) -> bool:
        lowered = address.lower()
        return lowered in self.members or lowered in self.digest_members

    def address_as_written(self, address: str) -> str:
        """The member's address as the member wrote it, if Mailman kept that."""
        lowered = address.lower()
        value = self.members.get(lowered) or self.digest_members.get(lowered)
        return value if isinstance(value, str) else lowered

    def member_language(self, address: str, site: SiteSettings) -> str:
        """The member's language if the list offers it, else the list's."""
        wanted = self.language.get(address.lower(), self.preferred_language)
        offered = {*self.available_languages, site.default_server_language} & set(site.language_charsets)
        return wanted if isinstance(wanted, str) and wanted in offered else self.preferred_language

    def member_name(self, address: str) -> str:
        """The member's name; "" if there is none."""
        name = self.usernames.get(address.lower())
        return name if isinstance(name, str) else ""


_NEEDED: Mapping[str, type] = {
    "real_name": str, "web_page_url": str, "description": str, "info": str, "msg_header": str, "msg_footer": str,
    "preferred_language": str, "available_languages": list, "members": dict, "digest_members": dict, "language": dict,
    "usernames": dict, "passwords": dict,
}  # fmt: skip
"""Every list of 2.1 has them. If one is missing, Mailman itself uses the defaults of the site, which are not known here."""


def list_settings(internal_name: str, config: object) -> ListSettings:
    """The settings in a loaded config.pck. Raises ListConfigUnreadable."""
    if not isinstance(config, dict):
        raise ListConfigUnreadable(f"list {internal_name}: config.pck does not contain a dictionary")
    host_name = config.get("host_name")
    if not isinstance(host_name, str) or not host_name:
        raise ListConfigUnreadable(f"list {internal_name}: config.pck has no host_name")
    for name, kind in _NEEDED.items():
        if name not in config:
            raise ListConfigUnreadable(
                f"list {internal_name}: config.pck has no {name}; the value that Mailman would use is not known"
            )
        if not isinstance(config[name], kind):
            found = type(config[name]).__name__
            raise ListConfigUnreadable(
                f"list {internal_name}: {name} in config.pck is a {found}, not a {kind.__name__}"
            )
    return ListSettings(
        internal_name,
        real_name=config["real_name"],
        host_name=host_name,
        web_page_url=config["web_page_url"],
        description=config["description"],
        info=config["info"],
        msg_header=config["msg_header"],
        msg_footer=config["msg_footer"],
        personalize=_whole_number(config.get("personalize", 0)),
        include_sender_header=bool(config.get("include_sender_header", True)),
        preferred_language=config["preferred_language"],
        available_languages=tuple(one for one in config["available_languages"] if isinstance(one, str)),
        use_dollar_strings=bool(config.get("use_dollar_strings", False)),
        members=config["members"],
        digest_members=config["digest_members"],
        language=config["language"],
        usernames=config["usernames"],
        passwords=config["passwords"],
    )


def _whole_number(value: object) -> int:
    return int(value) if isinstance(value, int | float) and math.isfinite(value) else 0
