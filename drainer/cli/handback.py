"""`drainer handback`: everything back to Mailman. A dry run unless --yes."""

from __future__ import annotations

from drainer.cli.entries import AS_THINGS_ARE, left_out
from drainer.cli.options import ConfigOption, JsonOption, ReasonOption, YesOption
from drainer.cli.output import print_folded, print_json
from drainer.cli.service import ask
from drainer.control.messages.entries import SelectRequest
from drainer.errors import ServiceNotRunning
from drainer.text.wording import count, recipients_of

ANSWER_WITHIN_S = 6 * 3600.0
"""What was taken is read first, and each entry is a commit: some minutes for 100,000."""

_WITHOUT_SENDING = (
    "what is in custody is given back by the service: to send nothing meanwhile, start it with "
    "`DRAINER_FEED__MESSAGES=0 drainer run`, then `drainer handback --yes`"
)


def handback_command(
    config: ConfigOption = None, yes: YesOption = False, reason: ReasonOption = "", as_json: JsonOption = False
) -> None:
    """Give every entry in custody back to Mailman's queue. Without --yes it only says how many.

    Untouched entries go back unchanged. Part-delivered ones go back with the recipients still owed. Copies of one mail go
    back together: if one has to stay because its recipients are in doubt, all of them stay.

    \b
    drainer handback
    drainer handback --yes --reason "Mailman takes over"
    """
    request = SelectRequest(yes=yes, reason=reason)
    try:
        reply = ask(config, lambda service: service.handback(request), ANSWER_WITHIN_S)
    except ServiceNotRunning as exc:
        # Only the service knows which recipients are still owed. An operator who hands back wants no more mail to go out.
        raise ServiceNotRunning(f"{exc}\n{_WITHOUT_SENDING}") from exc
    if as_json:
        print_json(reply)
        return
    found = f"{count(reply.matched, 'entry', 'entries')}, {recipients_of(reply.recipients, reply.unread)}"
    for line in left_out(reply):
        print_folded(line)
    if not reply.matched:
        print("Nothing is in custody; there is nothing to give back.")
    elif not reply.done:
        print_folded(f"Dry run: nothing was changed. With --yes {found} would go back to Mailman.")
        print(AS_THINGS_ARE)
    else:
        print_folded(f"{count(reply.changed, 'entry', 'entries')} given back to Mailman (of {found}).")
        print_folded("Mailman's outgoing runner delivers them from here; `drainer status` shows what is left with us.")
