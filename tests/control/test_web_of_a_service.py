"""The listener of a real service: its figures, its start, and a drain that goes on while strangers hold its port."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from drainer.control.web_connection import MOST_CONNECTIONS
from tests.scenarios.operated import Site, site, when
from tests.scenarios.running import Service, drainer

MAILS = 12


@pytest.fixture
def standing(tmp_path: Path) -> Iterator[tuple[Site, Service]]:
    """A service that has read its backlog and sends nothing, since its limit is 0."""
    with (
        site(tmp_path / "site", MAILS, feed={"messages": "0"}, web={"listen": "127.0.0.1:0"}) as standing,
        standing.run() as service,
    ):
        standing.surveyed()
        yield standing, service


def got(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
        found: bytes = answer.read()
    return found


def test_page_and_json_say_what_drainer_status_says_and_strangers_who_hold_the_port_stop_nothing(
    standing: tuple[Site, Service],
) -> None:
    here, service = standing
    port = service.web_port()
    # Both are asked again until they agree and all duplicates are found, which goes on in a backlog that has been read.
    both = until(
        lambda: {"said": json.loads(here.says("status", "--json")), "shown": json.loads(got(port, "/status.json"))},
        lambda both: (
            both["shown"]["backlog"] == both["said"]["backlog"] | ages(both["shown"])
            and owed_of(both["shown"]["backlog"]) == here.owed().total()
        ),
    )
    said, shown = both["said"], both["shown"]
    for same in ("state", "reason", "done", "rate", "eta", "pid", "since", "pauses"):
        assert shown[same] == said[same], same
    text = re.sub("<[^>]+>", " ", got(port, "/").decode())
    text = " ".join(text.split())
    backlog = said["backlog"]
    assert "Paused the rate limit is 0;" in text
    assert f"Backlog {backlog['recipients']:,} recipients {backlog['entries']:,} entries" in text
    for one in said["lists"]:
        assert f"{one['list']} {one['entries']:,} {one['recipients']:,} " in text
    # The burn-down gets a point each second: the one of this backlog may come after the status above.
    until(
        lambda: json.loads(got(port, "/history.json")),
        lambda one: [point["recipients"] for point in one["points"]][-1:] == [backlog["recipients"]],
    )

    with contextlib.ExitStack() as strangers:
        for number in range(2 * MOST_CONNECTIONS):
            stranger = strangers.enter_context(socket.create_connection(("127.0.0.1", port), timeout=60))
            if number % 2:
                stranger.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ")
        here.says("rate", "--messages", "unlimited")
        when(lambda: here.status()["state"] == "idle", here.status)
        until(lambda: json.loads(got(port, "/status.json")), lambda one: one["state"] == "idle")
    assert here.sink.deliveries() == here.owed()
    assert service.terminate() == 0


def owed_of(backlog: dict[str, Any]) -> int:
    """Recipients that are to get something: not those of duplicates."""
    return int(backlog["recipients"] - backlog["duplicate_recipients"])


def ages(shown: dict[str, Any]) -> dict[str, Any]:
    """What grows between two looks."""
    return {"oldest_age_s": shown["backlog"]["oldest_age_s"]}


def until(ask: Callable[[], dict[str, Any]], right: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    found: dict[str, Any] = {}

    def is_right() -> bool:
        found.clear()
        found.update(ask())
        return right(found)

    when(is_right, lambda: found)
    return found


def test_port_in_use_ends_the_start_with_2_and_the_setting_to_change(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with site(tmp_path / "site", 1, web={"listen": listen}) as here:
            done = drainer("run", "--config", here.settings)
            entries = len([*here.out.iterdir()])
            assert entries == here.outage.entries
    assert done.returncode == 2
    assert (
        f"drainer: web.listen = '{listen}': cannot listen there: Address already in use; right would be" in done.stderr
    )
    assert "Traceback" not in done.stderr


def test_impossible_address_is_reported_by_config_check(tmp_path: Path) -> None:
    with site(tmp_path / "site", 1, web={"listen": "::1:8025"}) as here:
        said = here.refuses(2, "config", "--check")
    assert "web.listen = '::1:8025': not an address; right would be" in said
