"""`drainer run`: the service."""

from __future__ import annotations

import gc
import sys
from typing import Annotated

import typer

from drainer.cli.options import ConfigOption
from drainer.settings_file import load_settings


def run_command(
    config: ConfigOption = None,
    until_empty: Annotated[
        bool, typer.Option("--until-empty", help="End when nothing is left but held entries.")
    ] = False,
) -> None:
    """Run the service in the foreground: take the queue into custody and drain it.

    SIGTERM finishes what is being sent and ends; SIGHUP reads the settings again.

    \b
    drainer run
    drainer run --config /etc/drainer/drainer.toml --until-empty
    """
    settings = load_settings(config)
    gc.disable()  # imported code stays in use: each full collection took 80 ms to search it
    from drainer.exit_deadline import LastResort
    from drainer.service import THREADS_END_WITHIN_S, run

    gc.freeze()
    gc.enable()
    forget_script()
    status = run(settings, until_empty, lambda: load_settings(config))
    LastResort().within(THREADS_END_WITHIN_S, status, "a thread or a child, at the end of the process")
    raise typer.Exit(status)


def forget_script() -> None:
    """A process that multiprocessing spawns first runs the script of its parent, unless that is `-m drainer`. pip's script
    imports the command line, which the readers of entries do not need: 0.3 s of CPU and some MB for each of them.
    """
    script = sys.modules["__main__"]
    if getattr(script, "__spec__", None) is None:
        vars(script).pop("__file__", None)
