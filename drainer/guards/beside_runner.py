"""Mailman's own outgoing runner beside us: which setting allows it, and what to tell the operator if none does.

In    settings, the runners that live
Out   the setting; texts for the operator, with the lines to write
Pure  no process is looked at

The runner cannot see the entries in our custody. A later entry in out/ belongs to whoever takes it first. If it is a copy of
a mail that we deliver, and the runner takes it, its recipients get the mail twice. We go on taking entries all the same:
each entry that we take is checked for duplicates, and each that we leave is certainly sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from drainer.guards.mailman import Runner
from drainer.settings import Settings

MAILMAN_3 = """\
In mailman.cfg:

    [runner.out]
    start: no

Then stop Mailman and start it again: `systemctl restart mailman3`, or `mailman stop` and `mailman start`.
`mailman restart` is not enough: the running master starts the same runners again."""

MAILMAN_2 = """\
At the end of mm_cfg.py:

    QRUNNERS = [one for one in QRUNNERS if one[0] != 'OutgoingRunner']

Then stop Mailman and start it again: `systemctl restart mailman`, or `mailmanctl stop` and `mailmanctl start`.
`mailmanctl restart` is not enough: the running master starts the same runners again."""

HOW_TO_STOP = {"mailman3": MAILMAN_3, "mailman2": MAILMAN_2}
"""Source  mailman/bin/master.py, start_runners (the one place that reads `start`) and loop; 2.1 bin/mailmanctl,
start_all_runners (the one place that reads QRUNNERS)"""


def wanted_by(settings: Settings) -> str:
    """The setting that allows Mailman's outgoing runner beside us; "" if none does."""
    if settings.custody.beside_runner:
        return "custody.beside_runner = true"
    if settings.feed.via == "mailman":
        return 'feed.via = "mailman"'
    if settings.mailman.release_lists:
        return "mailman.release_lists"
    return 'custody.scope = "backlog"' if settings.custody.scope == "backlog" else ""


def refusal(runners: Iterable[Runner], flavour: str, queue_dir: Path) -> str:
    """Why drainer does not start beside these runners, and how to stop them."""
    pids = ", ".join(str(runner.pid) for runner in runners)
    return (
        f"Mailman's outgoing runner (pid {pids}) delivers from {queue_dir / 'out'} too, and recipients would get second "
        "copies: a mail submitted again may go out by that runner, which knows nothing of what drainer delivered. Nothing "
        f"was touched. Right would be to stop that runner while drainer runs. {HOW_TO_STOP[flavour]}\n\n"
        "When all is drained, take the lines out again. To start beside it and accept second copies, set "
        '[custody] beside_runner = true. custody.scope = "backlog" leaves it fresh mail, and with that the duplicates '
        "that arrive later."
    )
