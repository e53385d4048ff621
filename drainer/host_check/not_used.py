"""Settings that have no effect because of another setting.

In    Settings
Out   a warning for each that differs from its default: who wrote it believes that it works
Pure  no file, no host

They are no errors, so that no service stays down because of a setting that does nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from drainer.host_check.finding import Finding
from drainer.schedule.windows import ELSE, windows_of
from drainer.settings import Settings
from drainer.settings.feed import FeedSettings
from drainer.settings.section import attribute_of

_Rows = Iterator[tuple[tuple[str, ...], str]]
"""Settings, and why they are not used; "" if they are."""


def not_used(settings: Settings) -> Iterator[Finding]:
    for names, why in _reasons(settings):
        for name in names:
            if why and _differs(settings, name):
                yield Finding("warning", name, f"not used: {why}")


def windows_cover_all(feed: FeedSettings) -> bool:
    """Whether the windows leave no moment to feed.messages."""
    return any(window.text == ELSE for window in windows_of(feed.windows))


def _differs(settings: Settings, name: str) -> bool:
    """Whether a setting ("feed.via") differs from its default."""
    section, _, key = name.partition(".")
    found = getattr(settings, section)
    attribute = attribute_of(type(found), key)
    return bool(getattr(found, attribute) != getattr(getattr(Settings(), section), attribute))


def _reasons(settings: Settings) -> _Rows:
    yield from _of_mailman(settings)
    yield from _of_mta(settings)
    yield from _of_feed(settings)
    yield from _around(settings)


def _of_mailman(settings: Settings) -> _Rows:
    flavour = settings.mailman.flavour
    of_3 = 'mailman.flavour = "mailman2", and only Mailman 3 has composers' if flavour == "mailman2" else ""
    yield ("mailman.python", "mailman.coprocesses", "mailman.remember"), of_3
    of_2 = (
        f'mailman.flavour = "{flavour}", and Mailman 3 has its settings in mailman.cfg' if flavour == "mailman3" else ""
    )
    yield ("mailman.settings",), of_2


def _of_mta(settings: Settings) -> _Rows:
    mta, via = settings.mta, settings.feed.via
    yield ("mta.password_file",), "" if mta.username else "mta.username is empty"
    yield ("mta.tls_ca_file",), 'mta.tls = "none"' if mta.tls == "none" else ""
    yield ("mta.queue_high", "mta.queue_low"), 'mta.queue = "none"' if mta.queue == "none" else ""
    yield ("mta.queue_config",), _why_no_instance(settings)
    yield ("mta.log_name",), "" if mta.log_file is not None else "mta.log_file is not set, so no log is read"
    # Over SMTP the replies of the MTA itself are compared with them, too. Of Exim's queue no replies are known.
    hears = via == "smtp" or mta.log_file is not None or mta.queue == "postfix"
    yield ("mta.too_fast",), "" if hears else f"{_BY_MAILMAN}, and neither mta.log_file nor Postfix's queue is read"


def _why_no_instance(settings: Settings) -> str:
    mta = settings.mta
    if mta.queue != "postfix":
        return f'mta.queue = "{mta.queue}"; it needs mta.queue = "postfix"'
    return "mta.queue_command is set; right would be -c and the directory in that command" if mta.queue_command else ""


_BY_MAILMAN = 'feed.via = "mailman"'
_OF_OUR_DELIVERIES = (
    "feed.domains",
    "feed.max_recipients",
    "feed.retry_first",
    "feed.retry_longest",
    "feed.give_up_after",
)
"""By some of these, DSNs still go out that a run before `feed.via = "mailman"` owes."""


def _of_feed(settings: Settings) -> _Rows:
    feed = settings.feed
    is_by_mailman = f"{_BY_MAILMAN}, and Mailman delivers by settings of its own" if feed.via == "mailman" else ""
    yield _OF_OUR_DELIVERIES, is_by_mailman
    releases = feed.via == "mailman" or bool(settings.mailman.release_lists)
    yield ("feed.window",), "" if releases else 'feed.via = "smtp", and mailman.release_lists is empty'
    yield ("feed.priority",), f'feed.order = "{feed.order}"' if feed.order != "priority" else ""
    yield ("feed.weights",), f'feed.order = "{feed.order}"' if feed.order != "fair" else ""
    yield ("feed.messages",), 'feed.windows has "else", and covers every moment' if windows_cover_all(feed) else ""
    has_times = bool(feed.windows) or feed.hourly or feed.daily
    yield ("feed.time_zone",), "" if has_times else "feed.windows is empty"
    yield ("feed.dsn_wait",), "" if feed.dsn else "feed.dsn = false"


def _around(settings: Settings) -> _Rows:
    ledger, notify = settings.ledger, settings.notify
    asks = ledger.in_doubt == "ask"
    yield ("ledger.in_doubt_fallback",), "" if asks else f'ledger.in_doubt = "{ledger.in_doubt}"'
    # A DSN in doubt is looked up whatever in_doubt says.
    has_log = settings.mta.log_file is not None
    yield ("ledger.in_doubt_wait",), "" if has_log else "mta.log_file is not set, so no log is read"
    yield ("web.hosts",), "" if settings.web.listen else "web.listen is empty"
    tells = bool(notify.command) or notify.url_file is not None
    yield ("notify.events", "notify.timeout"), "" if tells else "neither notify.command nor notify.url_file is set"
