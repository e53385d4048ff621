"""What the SMTP sink owns, in memory and as a line of its capture file."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Taken:
    """A message the sink owns: the final dot arrived, and the sink did not refuse it.

    queue_id    as in the log
    recipients  those accepted at RCPT, in order
    content     dot-unstuffed octets; b"" unless SinkOptions.keep_content
    replied     False: the sink owns it, but withheld or cut off the reply on purpose
    at_s        seconds since the epoch
    """

    queue_id: str
    session: int
    reverse_path: str
    parameters: tuple[str, ...]
    recipients: tuple[str, ...]
    message_id: str
    sha256: str
    size: int
    content: bytes
    replied: bool
    at_s: float

    def as_json(self) -> str:
        value = {
            "queue_id": self.queue_id,
            "session": self.session,
            "reverse_path": self.reverse_path,
            "parameters": self.parameters,
            "recipients": self.recipients,
            "message_id": self.message_id,
            "sha256": self.sha256,
            "size": self.size,
            "replied": self.replied,
            "at": self.at_s,
        }
        if self.content:
            value["content"] = base64.b64encode(self.content).decode("ascii")
        return json.dumps(value)
