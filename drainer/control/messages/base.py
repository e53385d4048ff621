"""What every request and every reply has in common; who sent a request; the reply that only says it is done.

Pure  values only
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from drainer.text.clean_model import CleanModel


class Request(BaseModel):
    """A request: an unknown field is refused, so that a misspelt one does not pass for none."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Reply(CleanModel):
    """Fields are only ever added, so an older client ignores what it does not know."""


class Peer(Request):
    """Who is at the other end of the socket (SO_PEERCRED)."""

    pid: int
    uid: int
    user: str


class Done(Reply):
    """`number`: of the action in the journal; null: nothing was changed."""

    message: str
    number: int | None = None
