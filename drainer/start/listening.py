"""Opens the control socket, and the web listener where one is set.

In    the settings, the operations an operator may ask for, the snapshot that the web page shows
Out   both listening until the stack closes; a control socket without room on its filesystem is tried again later
Raises  SettingsError, RequestRefused: the socket or the port cannot be used
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from drainer.clock import Clock
from drainer.control.server import ControlServer
from drainer.control.web import StatusListener
from drainer.errors import NoRoomForSocket
from drainer.observe.side_tasks import SideTasks
from drainer.observe.situation import Situation
from drainer.operate.operations import ServiceOperations
from drainer.settings import Settings
from drainer.text.logfmt import logfmt

log = logging.getLogger("drainer")

SOCKET_AGAIN_S = 2.0
"""How soon the control socket is tried again when its directory was full."""


async def listen_to_operators(
    stack: contextlib.AsyncExitStack, settings: Settings, operations: ServiceOperations, side_tasks: SideTasks
) -> None:
    control = ControlServer(settings.control.socket, operations, settings.control.group)
    stack.push_async_callback(control.stop)
    if not await _listens(control, settings):
        again = side_tasks.kept_going("listen", lambda: _listen_when_there_is_room(control, settings))
        listening = asyncio.create_task(again, name="listen")
        stack.callback(listening.cancel)


async def show_to_browsers(
    stack: contextlib.AsyncExitStack, settings: Settings, situation: Situation, clock: Clock
) -> None:
    if settings.web.listen:
        listener = StatusListener(settings.web, situation.snapshot, clock, lambda: situation.record_writer.burn_down)
        await listener.start()
        stack.push_async_callback(listener.stop)


async def _listens(control: ControlServer, settings: Settings) -> bool:
    try:
        await control.start()
    except NoRoomForSocket as exc:
        # Mail matters more than the socket: it drains, and the log says why `drainer` commands get no answer.
        log.error(logfmt(event="no_control_socket", detail=exc, next_try_s=SOCKET_AGAIN_S))
        return False
    log.info(logfmt(event="listening", socket=settings.control.socket))
    return True


async def _listen_when_there_is_room(control: ControlServer, settings: Settings) -> None:
    while True:
        await asyncio.sleep(SOCKET_AGAIN_S)
        if await _listens(control, settings):
            return
