"""Which list is meant by a text: its name, its address or its list-id, exactly; `*` where several are wanted.

In    what an operator or a setting wrote, and the lists there are
Out   the lists it means; UnknownList or AmbiguousList, with the names to choose from
Pure  values only

Case is ignored. Everybody who lets somebody name a list comes here, so that a name means the same in every command.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from drainer.errors import AmbiguousList, UnknownList
from drainer.queuedir.entry import Flavour

WILDCARD = "*"
NOTHING_DONE = "nothing was done"
_NAMED = 5


@dataclass(frozen=True, slots=True)
class MailingList:
    """A list there is.

    list_id     as queue entries have it: the name in Mailman 2.1, the list-id in 3
    name, host  its address in two parts; host "": not known
    """

    list_id: str
    name: str
    host: str = ""

    @property
    def address(self) -> str:
        """How it is named without doubt: its address, or its list-id where the host is not known."""
        return f"{self.name}@{self.host}" if self.host else self.list_id


def list_of(list_id: str, flavour: Flavour, host: str = "") -> MailingList:
    """A list known by what queue entries call it. Of a list-id of Mailman 3 the name is taken to end at the first dot."""
    if flavour is Flavour.MAILMAN2 or "." not in list_id:
        return MailingList(list_id, list_id, host)
    name, _, rest = list_id.partition(".")
    return MailingList(list_id, name, rest)


def is_wildcard(asked: str) -> bool:
    return WILDCARD in asked


def lists_named(asked: str, known: Iterable[MailingList]) -> tuple[MailingList, ...]:
    """Those of the known lists that the text names: for a name two hosts have, both. () if none."""
    wanted = asked.strip().casefold()
    if is_wildcard(wanted):
        pattern = re.compile(".*".join(map(re.escape, wanted.split(WILDCARD))), re.DOTALL)
        return tuple(one for one in known if any(pattern.fullmatch(form) for form in _forms(one)))
    found = tuple(one for one in known if _is_named(one, wanted))
    # A list-id may be what another list has for a name ("choir" in Mailman 2.1): it has to mean something nevertheless.
    by_id = tuple(one for one in found if one.list_id.casefold() == wanted)
    return by_id or found


def lists_meant(
    asked: str, known: Collection[MailingList], *, several: bool = True, otherwise: str = NOTHING_DONE
) -> tuple[MailingList, ...]:
    """The lists an operator means: one, or with `*` as many as match.

    several    whether `*` may be used
    otherwise  ends the text of an error: what has become of the request
    Raises     UnknownList with the nearest names; AmbiguousList with the addresses of both
    """
    if is_wildcard(asked) and not several:
        raise AmbiguousList(f"--list {asked}: one list has to be named here, without {WILDCARD}; {otherwise}")
    found = lists_named(asked, known)
    if not found:
        raise UnknownList(f"no list is known as {asked}; {_nearest(asked, known)}{otherwise}")
    if len(found) > 1 and not is_wildcard(asked):
        names = " or ".join(sorted(one.address for one in found))
        raise AmbiguousList(f"{len(found)} lists are known as {asked}: say {names}; {otherwise}")
    return found


def in_order(names: Iterable[str], known: Collection[MailingList]) -> tuple[str, ...]:
    """List-ids in the order the settings name them; of several that one name fits, those known first go first."""
    return tuple(dict.fromkeys(one.list_id for name in names for one in lists_named(name, known)))


def trouble_with(asked: str, known: Collection[MailingList]) -> str:
    """What is wrong with a list named in the settings; "" if it names one list, or with `*` at least one."""
    try:
        lists_meant(asked, known, otherwise="")
    except (UnknownList, AmbiguousList) as exc:
        return str(exc).strip().removesuffix(";")
    return ""


def _forms(one: MailingList) -> set[str]:
    with_host = {f"{one.name}@{one.host}", f"{one.name}.{one.host}"} if one.host else set()
    return {form.casefold() for form in {one.list_id, one.name, *with_host}}


def _is_named(one: MailingList, wanted: str) -> bool:
    if wanted in _forms(one) or wanted.replace("@", ".", 1) == one.list_id.casefold():
        return True
    # Mailman 2.1 has a name only once, so any host will do where the list's own is not known.
    local, at, _ = wanted.partition("@")
    return bool(at) and not one.host and one.name.casefold() == local


def _nearest(asked: str, known: Collection[MailingList]) -> str:
    """A clause that names some lists, nearest first, and ends with "; "."""
    if not known:
        return "no list is known here yet; "
    wanted = asked.casefold()
    by_form = {form: one for one in known for form in sorted(_forms(one))}
    near = difflib.get_close_matches(wanted, by_form, n=3 * _NAMED, cutoff=0.6)
    part = wanted.strip(WILDCARD)
    is_with_host = "." in part or "@" in part
    near += sorted(
        form for form, one in by_form.items() if part and part in (form if is_with_host else one.name.casefold())
    )
    named = list(dict.fromkeys(by_form[form].address for form in near))
    if not named:
        named = sorted(one.address for one in known)
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        return f"known are {', '.join(named[:_NAMED])}{more}; "
    return f"near to it: {', '.join(named[:_NAMED])}; "
