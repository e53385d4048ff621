"""Command lines in another order than ours whose meaning is clear: carried out as meant, or answered with the right one.

Pure  arguments in, arguments out
"""

from __future__ import annotations

from collections.abc import Sequence

from drainer.errors import UsageError

_CONFIG = "--config"


def as_meant(arguments: Sequence[str]) -> list[str]:
    """The same command line in the order we have: `--config F status` is `status --config F`, `scan DIR` is
    `scan --queue-dir DIR`. Raises UsageError for `rate 20/s`, which does not say of what."""
    config, rest = _config_before_the_command(list(arguments))
    if not rest:
        return [*config, *rest]
    command, *own = rest
    first = own[0] if own and not own[0].startswith("-") else ""
    if command == "scan" and first:
        own = ["--queue-dir", *own]
    elif command == "rate" and first:
        raise UsageError(
            f"`drainer rate {first}` does not say of what: `drainer rate --messages {first}` limits messages, "
            f"`drainer rate --recipients {first}` recipients"
        )
    return [command, *config, *own]


def _config_before_the_command(arguments: list[str]) -> tuple[list[str], list[str]]:
    if arguments[:1] == [_CONFIG] and len(arguments) > 2:
        return arguments[:2], arguments[2:]
    if arguments and arguments[0].startswith(f"{_CONFIG}=") and len(arguments) > 1:
        return arguments[:1], arguments[1:]
    return [], arguments
