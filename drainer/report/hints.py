"""What an operator can do next, for status and page.

In    a Snapshot
Out   sentences, the most urgent first; commands stand in backquotes
Pure  values only
"""

from __future__ import annotations

from collections.abc import Iterator

from drainer.report.snapshot import Snapshot
from drainer.text.wording import shown

_PAUSES_NAMED = 3


def hints(snapshot: Snapshot) -> Iterator[str]:
    """What the operator may want to do next."""
    if snapshot.without_service is not None:
        yield from _ways_on(snapshot)
        return
    limits = (snapshot.rate.limit_messages_per_s, snapshot.rate.limit_recipients_per_s)
    window = snapshot.rate.window
    if window is not None and window.overruled:
        yield "`drainer rate --auto` goes back to the windows of the settings"
    if window is not None and not window.overruled and limits[0] == 0:
        yield "`drainer rate --messages 20/s` overrules the windows, `drainer rate --auto` goes back to them"
    elif 0 in limits:
        yield "a limit of 0 sends nothing; `drainer rate --messages 20/s` (or --recipients) starts it again"
    lists = [pause.list for pause in snapshot.pauses if pause.list]
    given_back = snapshot.state == "paused" and not snapshot.backlog.entries
    if given_back or len(lists) < len(snapshot.pauses):
        yield "`drainer resume` goes on"
    for name in lists[:_PAUSES_NAMED]:
        yield f"`drainer resume --list {shown(name)}` lets that list go on"
    if snapshot.backlog.not_served_recipients and not snapshot.pauses:
        yield "what is not served is left out by feed.only or feed.not; change them, then `systemctl reload drainer`"
    if snapshot.state == "mta_down":
        yield "see why the MTA does not answer; no entry is lost or blamed, delivery goes on by itself when it is back"
    if snapshot.eta.state == "growing":
        yield "`drainer rate` shows the limits; raise them if the MTA can bear it"
    if snapshot.needs_restart:
        yield f"restart drainer to put changed settings in force: {', '.join(map(shown, snapshot.needs_restart))}"
    if snapshot.backlog.held_entries:
        yield "`drainer entries --state held` lists what waits for a decision; then `drainer release` or `drainer drop`"


def _ways_on(snapshot: Snapshot) -> Iterator[str]:
    """What makes the service answer again."""
    if snapshot.state == "not_answering":
        yield "its log says more: `journalctl -u drainer`; `systemctl restart drainer` loses nothing"
    elif snapshot.backlog.entries or snapshot.backlog.dsns_owed:
        yield "`systemctl start drainer` goes on, or `drainer run`"
    if snapshot.backlog.held_entries:
        yield "`drainer entries --state held` lists what waits for a decision; to decide, start drainer"
