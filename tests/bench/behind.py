"""What lies behind the MTA: a genuine Postfix and Exim that relay to one provider that refuses by rate, and to others.

    python -m tests.bench.behind [postfix] [exim]

In    what tests/exim.py and tests/postfix.py need, as root
Out   a table: the other domains' throughput beside what it is without that domain; how much of what its provider allows
      that domain gets; how many of its recipients the MTA holds at most

The figures are the providers' own counts, and the MTA's own of its queue. Every run is made with the settings that a site
has by default, except that no rate is set: `feed.messages = "unlimited"`. Everything lies in memory where that is possible:
runs are compared, two of each kind, and a disk that others use is not the same twice.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import exim, postfix
from tests.scenarios.behind import LIMITED, RECEIVING_RATE, BehindTheMta, behind_exim, behind_postfix

ALLOWED_PER_S = 20
MAILS = 1000
LIMITED_EACH, OTHERS_EACH = 5, 20
MEASURED_S = 120.0
"""So long the limited domain is followed; the others are done long before."""

_IN_MEMORY = Path("/dev/shm")
_LONGEST_S = 130.0
_LOOK_EVERY_S = 0.5
_RETRY_S = 5
KINDS: Mapping[str, Callable[[Path, str, int], AbstractContextManager[BehindTheMta]]] = {
    "postfix": behind_postfix,
    "exim": behind_exim,
}


@dataclass(frozen=True, slots=True)
class Behind:
    """others_per_s: recipients of the other domains, from the first to the last, in two drains; without, with: the limited
                 domain's mail

    accepted     of what the provider allows, from its first recipient to the end of the measurement
    most_queued  recipients of the limited domain in the MTA's queue
    twice        recipients who got more than one copy
    """

    others_per_s_without: float
    others_per_s_with: float
    accepted: float
    most_queued: int
    twice: int

    @property
    def others(self) -> float:
        return self.others_per_s_with / self.others_per_s_without


def measured(kind: str) -> Behind:
    """Drains into an MTA of this kind. Raises AssertionError if the other domains' mail does not all come."""
    without_s, with_s = _others_s(kind, 0), 0.0
    with _drain(kind, LIMITED_EACH) as behind:
        with_s += _lasted_s(behind)
        first_s = behind.limited.taken[0].at_s
        while (
            lasted_s := time.time() - first_s
        ) < MEASURED_S and behind.limited.taken_recipients < MAILS * LIMITED_EACH:
            time.sleep(_LOOK_EVERY_S)
        accepted = behind.limited.taken_recipients / (ALLOWED_PER_S * lasted_s)
        most_queued = behind.most_queued[LIMITED]
        twice = sum(1 for copies in behind.given().values() if copies > 1)
    # In this order, so that a machine that gets slower or faster all the time does neither of both a favour.
    with_s += _others_s(kind, LIMITED_EACH)
    without_s += _others_s(kind, 0)
    both = 2 * MAILS * OTHERS_EACH
    return Behind(both / without_s, both / with_s, accepted, most_queued, twice)


def _others_s(kind: str, limited_each: int) -> float:
    """Seconds from the first to the last recipient of the other domains, in a drain of its own."""
    with _drain(kind, limited_each) as behind:
        return _lasted_s(behind)


@contextmanager
def _drain(kind: str, limited_each: int) -> Iterator[BehindTheMta]:
    """The service drains a site into such an MTA, and somebody looks at the MTA's queue all the time."""
    with tempfile.TemporaryDirectory(prefix="behind-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None) as place:
        Path(place).chmod(0o755)
        with KINDS[kind](Path(place) / "mta", f"{RECEIVING_RATE} rate={ALLOWED_PER_S}", _RETRY_S) as behind:
            (home := Path(place) / "home").mkdir()
            feed = {"messages": "unlimited", "adaptive": True}
            site = behind.site(home, MAILS, limited_each, OTHERS_EACH, feed=feed)
            ended = threading.Event()
            watcher = threading.Thread(target=_watch, args=(behind, ended))
            with site.run():
                watcher.start()
                try:
                    yield behind
                finally:
                    ended.set()
                    watcher.join()


def _watch(behind: BehindTheMta, ended: threading.Event) -> None:
    while not ended.wait(_LOOK_EVERY_S):
        queued = behind.look_at_queue()
        taken = Counter({"limited": behind.limited.taken_recipients, "others": behind.others.taken_recipients})
        print(f"  {time.strftime('%X')} queue {dict(queued)} taken {dict(taken)}", file=sys.stderr)


def _lasted_s(behind: BehindTheMta) -> float:
    """The same, in this drain, once they are done."""
    expected, deadline_s = MAILS * OTHERS_EACH, time.monotonic() + _LONGEST_S
    while behind.others.taken_recipients < expected:
        assert time.monotonic() < deadline_s, f"only {behind.others.taken_recipients} of {expected} came"
        time.sleep(0.1)
    return behind.others.taken[-1].at_s - behind.others.taken[0].at_s


def table(found: Mapping[str, Behind]) -> str:
    rows: tuple[tuple[str, str, Callable[[Behind], str]], ...] = (
        ("other domains without it, recipients/s", "", lambda one: f"{one.others_per_s_without:.0f}"),
        ("other domains with it, of that", ">= 0.95", lambda one: f"{one.others:.2f}"),
        ("accepted of what its provider allows", ">= 0.80", lambda one: f"{one.accepted:.2f}"),
        ("most of it in the MTA's queue", "< 200", lambda one: f"{one.most_queued}"),
        ("recipients with two copies", "0", lambda one: f"{one.twice}"),
    )
    lines = [
        f"| one domain's provider takes {ALLOWED_PER_S}/s | {' | '.join(found)} | aim |",
        "|---" * (len(found) + 2) + "|",
    ]
    for name, aim, value in rows:
        lines.append(f"| {name} | {' | '.join(value(one) for one in found.values())} | {aim} |")
    return "\n".join(lines)


def main(kinds: tuple[str, ...] = ()) -> None:
    postfix.needed()
    exim.needed()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended before it was done"))  # or the MTA would go on alone
    print(table({kind: measured(kind) for kind in kinds or KINDS}))


if __name__ == "__main__":
    main(tuple(sys.argv[1:]))
