"""The labelled queue of an outage: genuine entries of Mailman 2.1 and what is known of each (samples/mailman2/README.md)."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

SAMPLES = Path(__file__).parent.parent / "samples" / "mailman2"
RESUBMISSION = SAMPLES / "qfiles" / "resubmission"


@cache
def labels() -> dict[str, dict[str, Any]]:
    """File name to label, of the `resubmission` queue."""
    every = json.loads((SAMPLES / "labels.json").read_text("utf-8"))
    return {
        name.removeprefix("resubmission/"): label for name, label in every.items() if name.startswith("resubmission/")
    }
