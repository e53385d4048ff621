"""`drainer accept-ledger`: go on with a ledger that the service refused to start with. A dry run unless --yes."""

from __future__ import annotations

import asyncio
import contextlib
import getpass

from drainer.cli.options import ConfigOption, ReasonOption, YesOption
from drainer.cli.output import print_folded
from drainer.cli.service import client_settings
from drainer.clock import SystemClock
from drainer.ledger.generation import Objection
from drainer.queuedir.custody import Custody
from drainer.queuedir.scan import scan_queue
from drainer.settings import Settings
from drainer.start.ledger_check import LedgerCheck
from drainer.text.wording import count


def accept_ledger_command(config: ConfigOption = None, yes: YesOption = False, reason: ReasonOption = "") -> None:
    """Drain this queue with this ledger, although it is new, an old backup, or another queue's.

    The service must be stopped. Waiting mail goes to every recipient this ledger does not know. A recipient who has had it
    gets it twice, unless the ledger learnt that from `drainer import-log` before. Without --yes it only says what is wrong,
    and how much waits.

    \b
    drainer accept-ledger
    drainer import-log --yes /var/log/mail.log.1 /var/log/mail.log
    drainer accept-ledger --yes --reason "ledger lost with the disk"
    """
    settings = client_settings(config)
    found, entries = asyncio.run(_accept(settings, yes, reason))
    print_folded(
        f"{settings.ledger.path}: {found.what if found else 'it belongs to this queue; there is nothing to accept'}."
    )
    if found is None:
        return
    waits = f"{count(entries, 'entry', 'entries')} in custody in {settings.mailman.queue_dir}/drainer"
    if yes:
        print_folded(
            f"Accepted; `drainer run` starts with it. It delivers {waits} to every recipient this ledger does not know."
        )
    else:
        print_folded(
            f"Dry run: nothing was changed. With --yes, {waits} would go to every recipient this ledger does not know."
        )


async def _accept(settings: Settings, yes: bool, reason: str) -> tuple[Objection | None, int]:
    """What was wrong, and how many entries wait in custody. Raises CustodyRefused while the service runs."""
    from drainer.ledger.open import empty_ledger, is_there, ledger_of, place_of
    from drainer.start.site import refuse_root_for_others

    refuse_root_for_others(settings.mailman.queue_dir)
    clock = SystemClock()
    with Custody(settings.mailman.queue_dir, clock=clock, scope=settings.custody.scope) as custody:
        # A dry run makes no ledger: one that is not there is as one that knows nothing.
        async with contextlib.AsyncExitStack() as stack:
            if yes or is_there(settings.ledger):
                ledger = ledger_of(settings.ledger, clock)
                await ledger.open()
                stack.push_async_callback(ledger.close)
            else:
                ledger = await stack.enter_async_context(empty_ledger(clock))
            check = LedgerCheck(custody, ledger, place_of(settings.ledger), clock)
            found = await check.objection()
            if yes and found is not None:
                await check.accept(getpass.getuser(), reason)
        return found, sum(1 for directory in (custody.backlog, custody.held) for _ in scan_queue(directory))
