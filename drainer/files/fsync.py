"""Names that outlast a power failure.

In    directories
Out   their entries on disk

fsync of a file keeps its content, not its name. The name is an entry of its directory, and the directory's own name is an
entry of the directory above. (fsync(2); POSIX promises no more, though ext4 and XFS keep a new file's name with it.)
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def sync_directory(directory: Path | str) -> None:
    """Every name made, changed or removed in it so far is on disk. Raises OSError."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directories(directory: Path, mode: int) -> None:
    """The directory and what is missing above it, with `mode` whatever the umask, all of it durable. Raises OSError.

    Its own name is synced in any case: the process that made it may have been killed before that.
    """
    missing = [new for new in (directory, *directory.parents) if not new.exists()]
    for new in reversed(missing):
        new.mkdir(mode=mode)
        new.chmod(mode)
    for new in dict.fromkeys((directory, *missing)):
        with contextlib.suppress(PermissionError):  # a directory we may not list is not one we made a name in
            sync_directory(new.parent)
