"""Every fault of an MTA at every step, in one drain: each mail meets its own, and per recipient the outcome is right.

A mail has a list of its own, so that a rule of the sink's finds it by its reverse-path. What the ledger says at the end is
compared with the sink's own record: delivered there is DELIVERED here, and no recipient has two copies.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from drainer.demo.sample_queue import write_plain
from drainer.ledger.records import recipient_key
from drainer.ledger.sqlite import SqliteLedger
from drainer.ledger.states import State
from tests.scenarios.running import running_sink, site_settings
from tests.scenarios.troubled import Outbreak, given

D, F, L, U = State.DELIVERED, State.FAILED, State.DEFERRED, State.IN_DOUBT
H = None
"""Nothing: the entry is held, and its recipients are owed the mail as before."""
RECIPIENTS_EACH = 3


@dataclass(frozen=True, slots=True)
class Fault:
    """What one mail meets.

    rule     of the sink's, for this mail only; "recipient" in it stands for its first recipient
    first    what becomes of its first recipient; others: of the others
    held     its entry is held: Mailman 2.1 blames no recipient for a refusal of the message
    blamed   it is put off with the MTA's 4xx reply, and the attempt counts
    owned    for recipients in doubt: whether the sink has it
    """

    rule: str
    first: State | None = D
    others: State | None = D
    held: bool = False
    blamed: bool = False
    owned: bool = False


FAULTS = [
    # A state of the MTA, not a failure of a recipient: tried again soon, and no attempt is counted.
    *[Fault(f"{step} 421 4.3.2 closing first=1") for step in ("mail", "rcpt", "data")],
    *[Fault(f"{step} {what} first=1") for step in ("mail", "rcpt", "data") for what in ("hang-up", "half", "garbage")],
    *[Fault(f"{step} silence first=1") for step in ("mail", "rcpt", "data")],
    *[Fault(f"{step} twice 250 2.0.0 again first=1") for step in ("mail", "rcpt")],
    Fault("data endless first=1"),
    # The MTA says to try again, and accepts then.
    *[Fault(f"{step} 451 4.3.0 later first=1", blamed=True) for step in ("mail", "rcpt", "data", "dot")],
    *[Fault(f"{step} 552 5.5.3 too many first=1", blamed=True) for step in ("mail", "rcpt", "data", "dot")],
    Fault("rcpt 450 4.2.0 greylisted recipient first=1", blamed=True),
    # It says so again and again.
    Fault("rcpt 450 4.2.0 later recipient", first=L, blamed=True),
    Fault("rcpt 452 4.5.3 too many", first=L, others=L, blamed=True),
    Fault("dot 451 4.3.0 later", first=L, others=L, blamed=True),
    # Refused for good.
    Fault("rcpt 550 5.1.1 no such user recipient", first=F),
    Fault("rcpt 550 5.7.1 nobody here", first=F, others=F),
    Fault("mail 550 5.7.1 not from you", first=H, others=H, held=True),
    Fault("data 554 5.5.1 no valid recipients", first=H, others=H, held=True),
    Fault("dot 554 5.6.0 content rejected", first=H, others=H, held=True),
    # The final dot is out, and no reply says what became of it.
    *[Fault(f"dot {what}", first=U, others=U) for what in ("hang-up", "garbage", "silence")],
    *[Fault(f"dot {what}", first=U, others=U, owned=True) for what in ("half", "take-and-hang-up", "take-and-silence")],
    *[Fault(f"content {what}", first=U, others=U) for what in ("hang-up", "silence")],
    Fault("dot twice 250 2.0.0 again", first=U, others=U, owned=True),  # which of the two is the answer?
    # Taken, whatever comes behind the reply.
    Fault("dot twice 421 4.3.2 closing"),
    *[Fault(f"{step} delay=0.7") for step in ("mail", "rcpt", "data", "dot")],
]
OF_SESSIONS = [
    f"{step} {what} after={at} first=1"
    for step, whats in {
        "connect": ("421 4.7.0 too many", "554 5.3.2 no", "hang-up", "garbage", "half", "endless", "silence"),
        "ehlo": ("421 4.3.2 closing", "hang-up", "garbage", "silence"),
        "rset": ("421 4.3.2 closing", "hang-up", "silence"),
        "quit": ("421 4.3.2 closing", "hang-up", "garbage", "silence"),
    }.items()
    for at, what in zip(range(3, 100, 5), whats, strict=False)
]
"""Any entry may meet these faults; they change no outcome."""


def rule(fault: Fault, number: int, first: str) -> str:
    """The sink's rule of a mail, for its list and its first recipient."""
    words = [f"recipient={first}" if word == "recipient" else word for word in fault.rule.split()]
    return " ".join([*words, f"sender={list_name(number)}-bounces@*"])


def list_name(number: int) -> str:
    return f"fault{number:02}"


def test_each_recipient_has_the_outcome_of_its_fault_and_the_ledger_agrees_with_the_sink(tmp_path: Path) -> None:
    outage = write_plain(tmp_path, len(FAULTS), RECIPIENTS_EACH, [list_name(number) for number in range(len(FAULTS))])
    expected: dict[tuple[str, str], tuple[Fault, State | None]] = {}
    rules = [*OF_SESSIONS]
    for number, (fault, ((name, message_id), recipients)) in enumerate(
        zip(FAULTS, sorted(outage.owed.items()), strict=True)
    ):
        assert name == list_name(number)
        first, *others = sorted(recipients)
        rules.append(rule(fault, number, first))
        expected[message_id, first] = fault, fault.first
        expected |= dict.fromkeys(((message_id, other) for other in others), (fault, fault.others))
    with running_sink(tmp_path / "sink", *(word for line in rules for word in ("--rule", line))) as sink:
        quiet = tmp_path / "quiet.log"
        quiet.touch()
        timeouts = dict.fromkeys(("connect_timeout", "command_timeout", "final_dot_timeout"), "5s")
        site = Outbreak(
            tmp_path,
            outage,
            site_settings(
                tmp_path,
                sink.port,
                {"flavour": "mailman2", "queue_dir": outage.queue_dir, "lists_dir": outage.lists_dir},
                mta={**timeouts, "log_file": quiet, "transactions_per_session": 2},
                feed={"retry_first": "200ms", "retry_longest": "1h", "dsn": False},
                ledger={"in_doubt": "ask", "in_doubt_wait": "1h"},
            ),
        )
        wanted = Counter(state for _, state in expected.values())
        with site.run() as service:
            site.status_when(
                "every fault was met",
                lambda said: (
                    (
                        said.done.delivered_recipients,
                        said.done.bounced_recipients,
                        said.backlog.deferred_recipients,
                        said.backlog.in_doubt_recipients,
                        said.backlog.held_entries,
                    )
                    == (wanted[D], wanted[F], wanted[L] + wanted[U], wanted[U], wanted[H] / RECIPIENTS_EACH)
                ),
            )
            assert service.terminate() == 0
    copies = Counter(
        {(message_id, recipient): times for (_, message_id, recipient), times in given(sink.capture).items()}
    )
    assert set(copies.values()) == {1}, "no recipient got two"
    states = asyncio.run(states_in(tmp_path / "ledger.sqlite", outage.owed))
    for (message_id, recipient), (fault, state) in expected.items():
        assert states[message_id, recipient] == ({state} if state else set()), fault
        assert copies[message_id, recipient] == (state is D or (state is U and fault.owned)), fault
    assert {line["reason"] for line in site.outcomes("held")} == {"content_refused"}
    assert len(site.files("drainer/held")) == sum(fault.held for fault in FAULTS)
    blamed = {message_id for (message_id, _), (fault, _) in expected.items() if fault.blamed}
    put_off = {line["message_id"] for line in site.outcomes("deferred") if line["reply"].startswith(("45", "552"))}
    assert put_off == blamed


async def states_in(path: Path, owed: dict[tuple[str, str], set[str]]) -> dict[tuple[str, str], set[State]]:
    """What the ledger says of each (Message-ID, recipient)."""
    ledger = SqliteLedger(path)
    await ledger.open()
    try:
        found: dict[tuple[str, str], set[State]] = {}
        for (_, message_id), recipients in owed.items():
            ((_, history),) = await ledger.messages_by_message_id(message_id)
            for recipient in recipients:
                key = recipient_key(recipient)
                found[message_id, recipient] = {state for state in State if key in history.with_state(state)}
        return found
    finally:
        await ledger.close()
