"""Requests and replies of the import of a log: which recipients had which message.

Pure  values only
"""

from __future__ import annotations

from pydantic import Field

from drainer.control.messages.base import Reply, Request


class DeliveryInLog(Request):
    """Recipients of one message who had it, according to a log. Fields as in mta_log/delivered.py, Delivered."""

    lists: tuple[str, ...] = Field(min_length=1)
    message_id: str = Field(min_length=1)
    recipients: tuple[str, ...]
    at_s: float = Field(allow_inf_nan=False, strict=True)
    carried: int | None = Field(None, ge=0, strict=True)


class ImportRequest(Request):
    """Some deliveries from logs, under one name; many requests make an import. With `undo` all under that name is forgotten.

    note  for the journal, with the last request of an import; empty: more are to come
    """

    name: str = Field(pattern=r"\Aimport-[0-9A-Za-z.-]{1,60}\z")
    deliveries: list[DeliveryInLog] = []
    yes: bool = False
    undo: bool = False
    note: str = ""


class ImportedEntry(Reply):
    """An entry that waits, some of whose recipients (`covered`) had its message."""

    entry: str
    list: str
    message_id: str
    recipients: int
    covered: int


class ImportReply(Reply):
    """`deliveries`: recipients the log tells of that can be known again; `learnt` of them were news to the ledger (or were
    forgotten). `unmatched`: deliveries of Mailman's that name no recipients, and match no entry."""

    done: bool
    name: str
    deliveries: int = 0
    learnt: int = 0
    unmatched: int = 0
    entries: list[ImportedEntry] = []
