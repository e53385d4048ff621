"""[control], [web], [guards], [notify] and [log]: everything around the drain. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from drainer.settings.section import Duration, Section, Size
from drainer.text.quantities import tcp_address


class ControlSettings(Section):
    socket: Path = Field(
        Path("/run/drainer/control.sock"),
        description="unix socket, mode 0660; members of its group may operate drainer",
    )
    group: str = Field(
        "",
        description="group of the socket, by name or number; empty: the service's own; it needs x on the directory",
    )


class WebSettings(Section):
    listen: str = Field(
        "", description='"127.0.0.1:8025" or "[::1]:8025" for the read-only page, JSON and metrics; empty: off'
    )
    hosts: tuple[str, ...] = Field(
        (),
        description="host names under which the page may be requested, besides its own address and localhost,"
        ' such as "lists.example.org"; others are refused',
    )

    @field_validator("listen")
    @classmethod
    def _is_an_address(cls, value: str) -> str:
        if value:
            tcp_address(value)
        return value


class GuardSettings(Section):
    min_free_bytes: Size = Field(
        67_108_864,
        description="feeding stops if the filesystem of the ledger, of ledger.state_dir or of the MTA's spool has fewer free"
        " bytes than this, and slows down from twice as many",
    )
    min_free_inodes: int = Field(100, ge=0, description="the same for free inodes")
    max_load: float = Field(
        0.0, ge=0, description="feeding slows down if the 1-minute load is higher than this; 0: never"
    )
    stop_load: float = Field(0.0, ge=0, description="feeding stops if the 1-minute load is higher than this; 0: never")
    memory_pressure: float = Field(
        20.0,
        ge=0,
        le=100,
        description="feeding slows down if tasks waited for memory for more than this percentage of the last 10 s"
        " (/proc/pressure/memory, some); 0: never",
    )
    memory_pressure_stop: float = Field(
        60.0, ge=0, le=100, description="feeding stops if it is more than this; 0: never"
    )
    io_pressure: float = Field(
        90.0,
        ge=0,
        le=100,
        description="feeding slows down if all tasks waited for a disk for more than this percentage of the last 10 s"
        " (/proc/pressure/io, full); 0: never",
    )
    io_pressure_stop: float = Field(0.0, ge=0, le=100, description="feeding stops if it is more than this; 0: never")
    cpu_pressure: float = Field(
        0.0,
        ge=0,
        le=100,
        description="feeding slows down if tasks waited for a processor for more than this percentage of the last 10 s"
        " (/proc/pressure/cpu, some); 0: never",
    )
    cpu_pressure_stop: float = Field(0.0, ge=0, le=100, description="feeding stops if it is more than this; 0: never")

    @model_validator(mode="after")
    def _stops_above_slow(self) -> Self:
        for slow, stop in (
            ("max_load", "stop_load"),
            ("memory_pressure", "memory_pressure_stop"),
            ("io_pressure", "io_pressure_stop"),
            ("cpu_pressure", "cpu_pressure_stop"),
        ):
            slow_at, stop_at = getattr(self, slow), getattr(self, stop)
            if 0 < stop_at < slow_at:
                raise ValueError(
                    f"{stop} = {stop_at:g} is below {slow} = {slow_at:g}; right would be at least {slow_at:g}"
                )
        return self


class NotifySettings(Section):
    """Never by mail: a mail would pass the queue that is watched."""

    command: tuple[str, ...] = Field(
        (),
        description="program to run, with arguments, without a shell; it gets the notice as JSON on standard input, and in"
        " DRAINER_EVENT and DRAINER_TEXT; []: none",
    )
    url_file: Path | None = Field(
        None, description="file with the URL of a webhook on its first line; the notice is posted there as JSON"
    )
    events: tuple[
        Literal["drained", "stopped_by_guard", "mta_down", "stalled", "held", "beside_runner", "recovered"], ...
    ] = Field(
        ("drained", "stopped_by_guard", "mta_down", "stalled", "beside_runner", "recovered"),
        description="which notices to send; beside_runner: Mailman's outgoing runner delivers beside drainer, and no setting"
        " allows it",
    )
    after: Duration = Field(60.0, description="no notice of a state that ends sooner than this")
    quiet: Duration = Field(900.0, description="the same notice is sent at most once in this time")
    drained_from: int = Field(
        100, ge=1, description="the notice drained is sent if the backlog had at least this many entries"
    )
    timeout: Duration = Field(30.0, gt=0, description="timeout for the command and for the answer of the webhook")

    @field_validator("command")
    @classmethod
    def _names_a_program(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if value and not value[0].startswith("/"):
            raise ValueError(
                'must begin with the full path of a program; right would be ["/usr/local/bin/page-me", "drainer"]'
            )
        return value


class LogSettings(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="lines less severe than this are not written"
    )
