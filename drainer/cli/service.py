"""The way to the running service: the settings that say where it listens, and a question put to it.

In    --config, a question
Out   the answer; or ServiceNotRunning with what to do about it
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TypeVar

from drainer.control.client import ANSWER_WITHIN_S, ControlClient
from drainer.errors import ServiceNotRunning
from drainer.settings import DEFAULT_PATH, Settings
from drainer.settings_file import load_settings

_Answer = TypeVar("_Answer")


def client_settings(config: Path | None) -> Settings:
    """The settings, as far as asking the service needs them: without a file at the default place, the defaults.

    Raises SettingsError
    """
    return load_settings(config, required=config is not None)


def ask(
    config: Path | None,
    question: Callable[[ControlClient], Awaitable[_Answer]],
    answer_within_s: float | None = None,
) -> _Answer:
    """The service's answer. answer_within_s: the limit for each request; None: the client's.

    Raises  ServiceNotRunning with what to do about it; RequestRefused, UsageError, DrainerError as the client does
    """
    socket_path = client_settings(config).control.socket

    async def exchange() -> _Answer:
        async with ControlClient(socket_path, answer_within_s or ANSWER_WITHIN_S) as service:
            return await question(service)

    try:
        return asyncio.run(exchange())
    except ServiceNotRunning as exc:
        raise with_way_out(exc, config) from exc


def with_way_out(exc: ServiceNotRunning, config: Path | None) -> ServiceNotRunning:
    """The same error, with how to start the service and which command works without it."""
    text = f"{exc}\nstart it with {start_command(config)}; `drainer scan` counts the backlog without it"
    if config is None and not DEFAULT_PATH.is_file():
        text += f" (there is no {DEFAULT_PATH}; name your settings with --config FILE)"
    return ServiceNotRunning(text)


def start_command(config: Path | None) -> str:
    return f"`systemctl start drainer` or `drainer run{f' --config {config}' if config else ''}`"
