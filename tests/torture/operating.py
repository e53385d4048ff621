"""What happens around a service for it to come to a named point: new mail, refusals, and the operator's commands.

In    a site, a run of the service that is to die, what the point needs
Out   the same run, dead

Wishes are repeated until the service has died: each may come too early, or be cut off by the death.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from drainer.backlog.selection import Selectors
from drainer.control.messages.entries import SelectRequest
from drainer.control.messages.journal import UndoRequest
from drainer.control.messages.pauses_and_rates import PauseRequest, ResumeRequest
from tests.torture.mta import SLOW, moment
from tests.torture.site import Run, Site

_POINT_WITHIN_S = 300.0
_ACTION_PAUSE_S = 0.1

REFUSING = (*SLOW, "rcpt 550 5.1.1 no such user recipient=bela1.[ch]*", "rcpt 450 4.2.0 later recipient=cem2.[ch]*")
"""On each of the lists choir and harbour, one member is refused permanently and one temporarily."""

REFUSED, DROPPED_LIST = "bela1.", "announce"
_UNHARMED_LISTS = (b"<night-sky.lists.example.org>", b"<beekeepers.lists.example.org>")


def provoke(site: Site) -> None:
    """One of each thing that makes the service write: new mail, a .bak that no runner works on, an unreadable file, a copy
    from a backup."""
    ours = [name for name in site.names if name not in site.gone]
    earlier = [name for name in ours if any(one in site.stock.entries[name] for one in _UNHARMED_LISTS)]
    for name in earlier[-3:-2]:
        site.put(name, copy_of(site, name))
    site.arrive(site.random.randrange(7, 10))
    (left,) = site.arrive(1)
    (site.out / left).rename(site.out / left.replace(".pck", ".bak"))
    (site.out / f"{time.time()!r}+{site.random.getrandbits(160):040x}.pck").write_bytes(b"garbage")


def copy_of(site: Site, name: str) -> str:
    """A name of Mailman's make for the same entry a second time."""
    return f"{float(name.partition('+')[0]) + 1!r}+{site.random.getrandbits(160):040x}.pck"


def operate(site: Site, run: Run, needs: str) -> None:
    """What the operator has to do for the service to come to its point, again and again until it has died."""
    wishes = WISHES.get(needs, (resumed, some_time, new_mail))
    deadline_s = time.monotonic() + _POINT_WITHIN_S
    while run.lives and site.status() is None:
        assert time.monotonic() < deadline_s, site.end_of_log()
        time.sleep(_ACTION_PAUSE_S)
    while run.lives:
        assert time.monotonic() < deadline_s, f"it did not come to its point\n{site.end_of_log()}"
        for wish in wishes:
            if run.lives:
                wish(site)
        time.sleep(_ACTION_PAUSE_S)


def resumed(site: Site) -> None:
    site.ask(lambda service: service.resume(ResumeRequest()))


def paused(site: Site) -> None:
    site.ask(lambda service: service.pause(PauseRequest(reason="torture")))


def new_mail(site: Site) -> None:
    site.arrive(3)


def one_mail(site: Site) -> None:
    site.arrive(1)


def taken(site: Site) -> None:
    """Wait until what is in out/ is ours."""
    moment(lambda: not site.lives or not list(site.out.glob("*.pck")), 3.0)


def some_time(site: Site) -> None:
    """For the service to go on by itself."""
    before = site.said("\n")
    moment(lambda: not site.lives or site.said("\n") > before + 20, 3.0)


def deferred(site: Site) -> None:
    """Wait until a recipient was deferred, so that an entry is part-delivered."""

    def is_so() -> bool:
        said = site.status()
        return not site.lives or (said is not None and said.backlog.deferred_recipients > 0)

    moment(is_so, 5.0, 0.1)


def held(site: Site) -> None:
    site.ask(lambda service: service.hold(SelectRequest(yes=True, reason="torture")))


def released(site: Site) -> None:
    """Entries that the operator held. To release a recipient in doubt is to accept a second copy for it."""
    answer = site.ask(lambda service: service.entries(Selectors(state="held"), 1000))
    for entry in answer.entries if answer else ():
        if entry.reason.startswith("operator"):
            site.release(entry.entry)


def dropped(site: Site) -> None:
    wish = SelectRequest(selectors=Selectors(list=DROPPED_LIST), yes=True, reason="torture")
    site.ask(lambda service: service.drop(wish))


def undone(site: Site) -> None:
    """What was dropped last is brought back."""
    site.ask(lambda service: service.undo(UndoRequest(yes=True, reason="torture")))


def handed_back(site: Site) -> None:
    site.ask(lambda service: service.handback(SelectRequest(yes=True, reason="torture")))


WISHES: dict[str, tuple[Callable[[Site], None], ...]] = {
    "pause": (paused, resumed),
    "hold": (resumed, new_mail, paused, taken, held),
    "release": (resumed, new_mail, paused, taken, held, released),
    "drop": (resumed, new_mail, paused, taken, dropped),
    "undo": (resumed, new_mail, paused, taken, dropped, undone),
    "handback": (resumed, new_mail, deferred, paused, new_mail, taken, handed_back),
    "via mailman": (some_time, one_mail),
}
