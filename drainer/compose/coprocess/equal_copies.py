"""What Mailman's delivery code does for each copy of a mail, once for all copies that come out alike.

In    the calls of Mailman's delivery code for one request
Out   install(): `expand` remembers what a list brings to every text, the decorate handler what it made of an equal mail
Shell runs in Mailman's Python

VERP copies differ in the envelope only, but Mailman decorates each of them anew. Header and footer of a copy depend on the
names that their templates (and the templates' addresses) mention. The names are noted while the genuine handler decorates
the first copy. If nothing of the member is mentioned, an equal copy comes out equal, and is not decorated again. Whether
there is a member counts, since without one Mailman leaves the member's names in the text. Nothing outlives the request.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import copy
import string
from typing import Any, NamedTuple

_OF_THE_COPY = ("recipient", "member", "nodecorate")


class _Decorated(NamedTuple):
    """A mail before and after the handler, with the metadata that all copies have in common."""

    metadata: dict[str, Any]
    before: Any
    after: Any


class EqualCopies:
    """What was made for the copies of one request."""

    def __init__(self) -> None:
        self.names: set[str] | None = None
        self.given: dict[str, Any] = {}
        self.of_lists: dict[int, dict[str, Any]] = {}
        self._decorated: dict[bool, _Decorated] = {}
        self._are_personal = False

    def forget(self) -> None:
        """The request is over, or something that it depends on has changed."""
        self.of_lists.clear()
        self._decorated.clear()
        self._are_personal = False

    def decorate(self, genuine: Any, handler: Any, mlist: Any, msg: Any, msgdata: dict[str, Any]) -> None:
        """Do to the mail what genuine(handler, mlist, msg, msgdata) does."""
        if "recipient" not in msgdata or msgdata.get("nodecorate") or self._are_personal:
            genuine(handler, mlist, msg, msgdata)
            return
        is_member = msgdata.get("member") is not None
        metadata = {key: value for key, value in msgdata.items() if key not in _OF_THE_COPY}
        before, known = parts(msg), self._decorated.get(is_member)
        if known is not None and known.before == before and known.metadata == metadata:
            msg.__dict__.clear()
            msg.__dict__.update(copy.deepcopy(known.after).__dict__)
            return
        self.names, self.given = set(), {}
        try:
            genuine(handler, mlist, msg, msgdata)
            if self.names & (self.given.keys() - _of_every_copy(mlist, msgdata)):
                self._are_personal = True
            else:
                self._decorated[is_member] = _Decorated(metadata, before, copy.deepcopy(msg))
        finally:
            self.names = None


def _of_every_copy(mlist: Any, msgdata: dict[str, Any]) -> set[str]:
    """Names that have the same value for all recipients: what the mail brings, and where it is archived."""
    from mailman.interfaces.mailinglist import IListArchiverSet

    archives = {f"{archiver.system_archiver.name}_url" for archiver in IListArchiverSet(mlist).archivers}
    return archives | set(msgdata.get("decoration-data", ()))


def parts(msg: Any) -> Any:
    """Everything that the serialisation of a message depends on; equal messages have equal parts."""
    payload = msg._payload
    return (
        type(msg),
        list(msg._headers),
        [parts(part) if hasattr(part, "_headers") else part for part in payload]
        if isinstance(payload, list)
        else payload,
        msg.preamble,
        msg.epilogue,
        msg._unixfrom,
        msg._default_type,
        str(msg._charset),
        msg.policy,
    )


class _Substitutions:
    """Takes the place of string.Template to learn the substitutions themselves."""

    def __init__(self, template: str) -> None:
        pass

    def safe_substitute(self, substitutions: dict[str, Any]) -> dict[str, Any]:
        return substitutions


def install(copies: EqualCopies) -> None:
    """Replace Mailman's functions, as far as they are those that are known."""
    from mailman.handlers import decorate
    from mailman.interfaces.template import ITemplateLoader
    from mailman.model.template import TemplateLoader
    from mailman.mta import verp
    from mailman.utilities.string import expand
    from zope.component import getUtility

    if expand.__defaults__ != (None, None, string.Template):
        return  # a Mailman that expands texts in another way

    class Noting(string.Template):
        """A template that notes which names it mentions."""

        def safe_substitute(self, *args: Any, **kws: Any) -> str:
            if copies.names is not None:
                for found in self.pattern.finditer(self.template):
                    copies.names.add(found.group("named") or found.group("braced"))
            return super().safe_substitute(*args, **kws)

    def expand_again(
        template: str, mlist: Any = None, extras: dict[str, Any] | None = None, template_class: Any = Noting
    ) -> Any:
        if mlist is None:
            return expand(template, None, extras, template_class)
        of_list = copies.of_lists.get(id(mlist))
        if of_list is None:
            of_list = copies.of_lists[id(mlist)] = expand("", mlist, None, _Substitutions)
        return template_class(template).safe_substitute({**of_list, **(extras or {})})

    expand.__defaults__ = (None, None, Noting)
    if verp.expand is expand:
        verp.expand = expand_again
    has_known_loader = type(getUtility(ITemplateLoader)) is TemplateLoader  # a plugin's may read what it is given
    if (
        not has_known_loader
        or decorate.expand is not expand
        or "expand" not in decorate.decorate_template.__code__.co_names
    ):
        return  # a Mailman that decorates in another way
    decorate.expand = expand_again
    text, process = decorate.decorate, decorate.Decorate.process

    def decorate_text(name: str, mlist: Any, extradict: dict[str, Any] | None = None) -> str:
        copies.given.update(extradict or {})
        found: str = text(name, mlist, extradict)
        return found

    def process_copy(handler: Any, mlist: Any, msg: Any, msgdata: dict[str, Any]) -> None:
        copies.decorate(process, handler, mlist, msg, msgdata)

    decorate.decorate = decorate_text
    decorate.Decorate.process = process_copy
