"""SIGHUP, and every setting there is: a changed value is in force afterwards, or named as one that needs a restart.

A running service is given settings that no other part of the program has, object by object. After the reload the old ones
must be reachable from nowhere in it: whoever kept one goes on with it. Words and switches are no objects of their own, so
whoever keeps one of those is asked.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drainer.demo.sample_queue import write_outage
from drainer.errors import SettingsError
from drainer.report.snapshot import Snapshot
from drainer.service import Service
from drainer.settings import Settings
from drainer.settings.feed import FeedSettings
from drainer.settings.section import attribute_of
from drainer.start.reloading import BUILT_ONCE, every_setting, reloaded

HOME = Path("/nowhere")

VALUES: dict[str, tuple[Any, Any]] = {
    "mailman.flavour": ("mailman2", "mailman3"),
    "mailman.queue_dir": (HOME / "q1", HOME / "q2"),
    "mailman.config": (HOME / "m1.cfg", HOME / "m2.cfg"),
    "mailman.python": (HOME / "p1", HOME / "p2"),
    "mailman.coprocesses": (3, 4),
    "mailman.remember": (61.5, 62.5),
    "mailman.lists_dir": (HOME / "l1", HOME / "l2"),
    "mailman.settings": ({"SMTP_MAX_RCPTS": 333}, {"SMTP_MAX_RCPTS": 444}),
    "mailman.release_lists": (("one@example.org",), ("two@example.org",)),
    "mailman.smtp_log": (HOME / "s1", HOME / "s2"),
    "custody.queues": (("out",), ("out", "retry")),
    "custody.scope": ("all", "backlog"),
    "custody.beside_runner": (True, False),
    "custody.bak_age": (3601.5, 3602.5),
    "custody.poll": (0.1015, 0.1025),
    "mta.host": ("host-1.invalid", "host-2.invalid"),
    "mta.port": (10_001, 10_002),
    "mta.helo": ("helo-1.example", "helo-2.example"),
    "mta.tls": ("none", "starttls"),
    "mta.tls_ca_file": (HOME / "ca1", HOME / "ca2"),
    "mta.username": ("user-1", "user-2"),
    "mta.password_file": (HOME / "w1", HOME / "w2"),
    "mta.sessions": (301, 302),
    "mta.transactions_per_session": (1001, 1002),
    "mta.connect_timeout": (31.5, 32.5),
    "mta.command_timeout": (301.5, 302.5),
    "mta.content_timeout": (181.5, 182.5),
    "mta.final_dot_timeout": (601.5, 602.5),
    "mta.log_file": (HOME / "g1", HOME / "g2"),
    "mta.queue": ("exim", "postfix"),
    "mta.queue_config": (HOME / "q1", HOME / "q2"),
    "mta.queue_command": (("/bin/true", "1"), ("/bin/true", "2")),
    "mta.log_name": ("one", "two"),
    "mta.too_fast": (("one1",), ("two2",)),
    "mta.queue_high": (20_001, 20_002),
    "mta.queue_low": (5001, 5002),
    "feed.via": ("smtp", "mailman"),
    "feed.messages": (0.0, 0.0125),
    "feed.recipients": (71.5, 72.5),
    "feed.windows": (("22:00-06:00 1/s",), ("21:00-06:00 45/h",)),  # in force or not, messages are 0.0125/s
    "feed.time_zone": ("Europe/Berlin", "America/New_York"),
    "feed.hourly": (3_000_001, 3_000_002),
    "feed.daily": (30_000_001, 30_000_002),
    "feed.adaptive": (True, False),
    "feed.order": ("oldest", "fair"),
    "feed.fresh_lane": (False, True),
    "feed.priority": (("a@example.org",), ("b@example.org",)),
    "feed.weights": ({"a@example.org": 4.5}, {"b@example.org": 5.5}),
    "feed.only": (("one@example.org", "one-*"), ("two@example.org", "two-*")),
    "feed.not": (("three@example.org", "three-*"), ("four@example.org", "four-*")),
    "feed.max_recipients": (401, 402),
    "feed.window": (501, 502),
    "feed.memory": (2**29 + 1, 2**29 + 3),
    "feed.retry_first": (303.5, 304.5),
    "feed.retry_longest": (3603.5, 3604.5),
    "feed.give_up_after": (432_001.5, 432_002.5),
    "feed.dsn": (True, False),
    "feed.dsn_wait": (305.5, 306.5),
    "feed.domains": ({"one.example": 11.5}, {"two.example": 12.5}),
    "feed.domain_groups": ({"one": ("a.example", "b.example")}, {"two": ("c.example", "d.example")}),
    "duplicates.exact": ("suppress", "hold"),
    "duplicates.resend": ("hold", "deliver"),
    "duplicates.window": (259_201.5, 259_202.5),
    "duplicates.keep": (1_209_601.5, 1_209_602.5),
    "ledger.path": (HOME / "d1.sqlite", HOME / "d2.sqlite"),
    "ledger.state_dir": (HOME / "s1", HOME / "s2"),
    "ledger.in_doubt": ("ask", "hold"),
    "ledger.in_doubt_fallback": ("resend", "hold"),
    "ledger.in_doubt_wait": (63.5, 64.5),
    "ledger.keep": (7_776_001.5, 7_776_002.5),
    "control.socket": (HOME / "c1.sock", HOME / "c2.sock"),
    "control.group": ("", "0"),
    "web.listen": ("", "127.0.0.1:18025"),
    "web.hosts": (("one.example",), ("two.example",)),
    "guards.min_free_bytes": (1001, 1002),
    "guards.min_free_inodes": (301, 302),
    "guards.max_load": (901.5, 902.5),
    "guards.stop_load": (911.5, 912.5),
    "guards.memory_pressure": (31.25, 32.25),
    "guards.memory_pressure_stop": (71.25, 72.25),
    "guards.io_pressure": (91.25, 92.25),
    "guards.io_pressure_stop": (98.25, 99.25),
    "guards.cpu_pressure": (93.25, 94.25),
    "guards.cpu_pressure_stop": (96.25, 97.25),
    "notify.command": (("/bin/true", "1"), ("/bin/true", "2")),
    "notify.url_file": (HOME / "u1", HOME / "u2"),
    "notify.events": (("held",), ("drained",)),
    "notify.after": (65.5, 66.5),
    "notify.quiet": (901.5, 902.5),
    "notify.drained_from": (3001, 3002),
    "notify.timeout": (33.5, 34.5),
    "log.level": ("info", "debug"),
}
"""Of each setting two values that differ, and large enough to be objects of their own, as small numbers are not."""

ASKED: dict[str, Callable[[Service], object]] = {
    "custody.beside_runner": lambda service: (
        service.situation.mailman().runner_wanted_by == "custody.beside_runner = true"
    ),
    "mta.tls": lambda service: service.pipeline.resources.pool._settings.tls,
    "mta.queue": lambda service: service._assembled.surroundings.behind_the_mta.queue._kind,
    "feed.adaptive": lambda service: service.pipeline.resources.rate._adaptive,
    "feed.order": lambda service: service.pipeline.resources.settings.feed.order,
    "feed.fresh_lane": lambda service: service.pipeline.resources.settings.feed.has_fresh_lane,
    "feed.dsn": lambda service: service.pipeline.resources.settings.feed.dsn,
    "duplicates.exact": lambda service: service.pipeline.resources.settings.duplicates.exact,
    "duplicates.resend": lambda service: service.pipeline.resources.settings.duplicates.resend,
    "ledger.in_doubt": lambda service: service.pipeline.in_doubt._settings.ledger.in_doubt,
    "ledger.in_doubt_fallback": lambda service: service.pipeline.in_doubt._settings.ledger.in_doubt_fallback,
    "notify.events": lambda service: service._notifier._settings.events,
    "log.level": lambda service: logging.getLevelName(logging.getLogger().level).lower(),
}
"""Words and switches: what the part that goes by them has."""

DERIVED: dict[str, tuple[Callable[[Service], object], Callable[[Any], object]]] = {
    "feed.memory": (
        lambda service: service.pipeline.transmit._content.of(is_fresh=True).limit_bytes,
        lambda size: size // 2 // 4,
    ),
    "feed.messages": (lambda service: service.pipeline.resources.rate.messages_per_s, lambda rate: rate),
    "feed.recipients": (lambda service: service.pipeline.resources.rate.recipients_per_s, lambda rate: rate),
    "mta.sessions": (lambda service: service.pipeline.transmit._sessions, lambda sessions: sessions),
    "custody.bak_age": (lambda service: service.pipeline.resources.custody._bak_age_s, lambda age: age),
}
"""Settings of which something else is made, or whose old value is remembered as what was in force then (rates)."""


def settings_of(at: int, **own: dict[str, Any]) -> Settings:
    sections: dict[str, dict[str, Any]] = {}
    for name, values in VALUES.items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = own.get(section, {}).get(key, values[at])
    # pydantic copies no number and no text: these objects are the settings' own.
    return Settings.model_validate(sections)


def value_of(settings: Settings, name: str) -> object:
    section, _, key = name.partition(".")
    found = getattr(settings, section)
    return getattr(found, attribute_of(type(found), key))


def test_every_setting_has_two_values_here_that_differ() -> None:
    assert list(VALUES) == list(every_setting())
    one, other = settings_of(0), settings_of(1)
    assert [name for name in VALUES if value_of(one, name) == value_of(other, name)] == []
    assert set(BUILT_ONCE) <= set(VALUES)
    words = {name for name, (before, _) in VALUES.items() if isinstance(before, bool) or str(before) in WORDS}
    assert words - set(BUILT_ONCE) <= set(ASKED), "a word or a switch: say who goes by it"


WORDS = frozenset({"mailman2", "all", "none", "exim", "smtp", "oldest", "suppress", "hold", "ask", "resend", "info"})


def test_each_changed_setting_alone_is_in_force_or_named() -> None:
    one, other = settings_of(0), settings_of(1)
    for name in VALUES:
        section, _, key = name.partition(".")
        own = getattr(one, section)
        changed = own.model_copy(update={attribute_of(type(own), key): value_of(other, name)})
        now, needs_restart = reloaded(one, one.model_copy(update={section: changed}))
        if name in BUILT_ONCE:
            assert (needs_restart, now) == ((name,), one)
        else:
            assert needs_restart == ()
            assert value_of(now, name) == value_of(other, name)
    assert reloaded(one, one) == (one, ())


def kept_by(service: Service) -> Iterator[object]:
    """Every object that the service, its parts and its tasks hold; not what they have said before (snapshots)."""
    seen: set[int] = set()
    todo: list[object] = [service, *asyncio.all_tasks() - {asyncio.current_task()}]
    while todo:
        found = todo.pop()
        if id(found) in seen or isinstance(found, type | types.ModuleType | types.CodeType | Snapshot):
            continue
        seen.add(id(found))
        yield found
        if isinstance(found, types.FunctionType):
            todo += [cell.cell_contents for cell in found.__closure__ or () if cell_is_full(cell)]
            todo += found.__defaults__ or ()
        elif isinstance(found, types.FrameType):
            todo += found.f_locals.values()
        elif not isinstance(found, Settings):
            todo += gc.get_referents(found)


def cell_is_full(cell: types.CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


async def test_running_service_keeps_no_old_value_of_a_setting_that_needs_no_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outage = write_outage(tmp_path, 1, 3)
    for path in (outage.queue_dir / "out").iterdir():
        path.unlink()
    own: dict[str, dict[str, Any]] = {
        "mailman": {"queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir},
        "ledger": {"path": tmp_path / "ledger.sqlite", "state_dir": tmp_path},
        "control": {"socket": tmp_path / "control.sock"},
    }
    before, again = settings_of(0, **own), settings_of(1)
    password = tmp_path / "password"
    password.write_text("x\n")
    password.chmod(0o600)
    for settings in (before, again):
        object.__setattr__(settings.mta, "password_file", Path(str(password)))
    service = Service(before, reread=lambda: again)
    running = asyncio.create_task(service.main())
    level = logging.getLogger().level
    try:
        async with asyncio.timeout(60):
            while not (hasattr(service, "situation") and service.situation.state == "idle"):
                assert not running.done(), await running
                await asyncio.sleep(0.05)
            live = [name for name in VALUES if name not in BUILT_ONCE and name != "mta.password_file"]
            old = {id(value_of(before, name)): name for name in live if name not in (*ASKED, *DERIVED)}
            assert {old[id(one)] for one in kept_by(service) if id(one) in old} != set(), (
                "the search finds what is kept"
            )
            service.reload()
        still: set[str] = set(live)
        for _ in range(300):  # what sleeps has its old value until it wakes
            await asyncio.sleep(0.1)
            still = {old[id(one)] for one in kept_by(service) if id(one) in old}
            if not still:
                break
        assert still == set()
        assert {name: ask(service) for name, ask in ASKED.items()} == {name: VALUES[name][1] for name in ASKED}
        for name, (ask, made_of) in DERIVED.items():
            assert ask(service) == made_of(VALUES[name][1]), name
        snapshot = await service.situation.snapshot()
        assert snapshot.needs_restart == list(BUILT_ONCE)
        assert f"needs_restart={','.join(BUILT_ONCE)}\n" in caplog.text
    finally:
        service.stop("test")
        await running
        logging.getLogger().setLevel(level)


def test_reload_of_impossible_settings_changes_nothing() -> None:
    def impossible() -> Settings:
        raise SettingsError("feed.messages = 'fast': not a rate")

    before = settings_of(0)
    service = Service(before, reread=impossible)
    service.reload()
    assert service.settings is before


def test_domains_left_out_are_not_handed_over_because_via_needs_a_restart() -> None:
    """The new settings are right in themselves, and would have Mailman deliver to the domain until the restart."""
    in_force = Settings(feed=FeedSettings(via="mailman"))
    read = Settings(feed=FeedSettings.model_validate({"via": "smtp", "not": ["@gmail.com"]}))
    with pytest.raises(SettingsError, match=r'via = "mailman" hands whole entries over, so @gmail\.com .* a restart'):
        reloaded(in_force, read)
