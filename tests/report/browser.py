"""Headless Chromium, driven through its DevTools protocol: what a person with a browser would see.

Source  https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Self

import aiohttp

SOON_S = 60.0
_FLAGS = (
    "--headless=new --remote-debugging-port=0 --disable-gpu --disable-dev-shm-usage --no-first-run --mute-audio "
    "--disable-background-networking --disable-component-update --disable-sync --disable-extensions --no-proxy-server "
    "--disable-default-apps --disable-breakpad --hide-scrollbars"
).split()


@contextmanager
def chromium(profile: Path) -> Iterator[str]:
    """A browser with an empty profile; gives the address of its DevTools."""
    program = shutil.which("chromium")
    assert program, "the tests of the page need Chromium: apt-get install chromium"
    as_root = ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [program, *_FLAGS, *as_root, f"--user-data-dir={profile}", "about:blank"]
    with (profile.parent / "chromium.log").open("wb") as log:
        # A group of its own: Chromium is many processes, and all of them have to end.
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline_s = time.monotonic() + SOON_S
        port_file = profile / "DevToolsActivePort"
        while not (port_file.exists() and len(lines := port_file.read_text().splitlines()) == 2):
            assert process.poll() is None, (profile.parent / "chromium.log").read_text()
            assert time.monotonic() < deadline_s, (profile.parent / "chromium.log").read_text()
            time.sleep(0.05)
        yield f"ws://127.0.0.1:{lines[0]}{lines[1]}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class Tab:
    """One tab. `complaints` holds console errors, exceptions and violations; `asked` every address it asked for."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._session = ""
        self._loaded = asyncio.Event()
        self.complaints: list[str] = []
        self.asked: list[str] = []

    async def attach(self) -> Self:
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")
        return self

    async def listen(self) -> None:
        async for message in self._socket:
            said = message.json()
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            else:
                self._event(said["method"], said["params"])

    def _event(self, method: str, said: dict[str, Any]) -> None:
        if method == "Page.loadEventFired":
            self._loaded.set()
        elif method == "Network.requestWillBeSent":
            self.asked.append(said["request"]["url"])
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("warning", "error"):
            self.complaints.append(said["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and said["type"] in ("warning", "error", "assert"):
            self.complaints.append(str(said["args"]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"]))

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        session = {"sessionId": self._session} if self._session else {}
        await self._socket.send_json({"id": number, "method": method, "params": parameters, **session})
        async with asyncio.timeout(SOON_S):
            said = await answer
        assert "error" not in said, (method, said)
        found: dict[str, Any] = said["result"]
        return found

    async def open(self, url: str) -> None:
        self._loaded.clear()
        went = await self.call("Page.navigate", url=url)
        assert "errorText" not in went, went
        async with asyncio.timeout(SOON_S):
            await self._loaded.wait()

    async def says(self, expression: str) -> Any:
        """The value of an expression of JavaScript, as JSON has it."""
        result = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    async def when(self, expression: str) -> None:
        """Return once the expression is true."""
        deadline_s = time.monotonic() + SOON_S
        while not await self.says(expression):
            assert time.monotonic() < deadline_s, (expression, await self.says("document.body.innerText"))
            await asyncio.sleep(0.05)

    async def looks_like(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """A screen of that many CSS pixels, and the scheme of colours its owner prefers."""
        await self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500
        )
        await self.call(
            "Emulation.setEmulatedMedia", media="screen", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )


@asynccontextmanager
async def tab(devtools: str) -> AsyncIterator[Tab]:
    """A tab of its own, closed at the end."""
    async with aiohttp.ClientSession() as session, session.ws_connect(devtools, max_msg_size=0) as socket:
        opened = Tab(socket)
        listening = asyncio.create_task(opened.listen())
        try:
            yield await opened.attach()
            await opened.call("Page.close")
        finally:
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
