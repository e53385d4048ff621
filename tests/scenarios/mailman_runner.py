"""A small Mailman outgoing runner: claims entries of out/ by renaming .pck to .bak, "delivers" them to a file, unlinks.

    python -m tests.scenarios.mailman_runner OUT DELIVERED       until OUT/../stop exists and OUT is empty of .pck

DELIVERED gets an object a line for each entry it handled: filebase, list, message_id, recipients.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from drainer.queuedir.content import header_text
from drainer.queuedir.read import read_entry


def main(out: Path, delivered: Path) -> None:
    with delivered.open("a", buffering=1) as handled:
        while True:
            is_last = (out.parent / "stop").exists()
            for entry in sorted(out.glob("*.pck")):
                claimed = entry.with_suffix(".bak")
                try:
                    entry.rename(claimed)
                except FileNotFoundError:
                    continue
                read = read_entry(claimed)
                taken = {
                    "filebase": entry.stem,
                    "list": read.list_id,
                    "message_id": (header_text(read.message, "message-id") or "").strip(),
                    "recipients": read.recipients,
                }
                handled.write(json.dumps(taken) + "\n")
                claimed.unlink()
                time.sleep(0.01)
            if is_last:
                return
            time.sleep(0.01)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
