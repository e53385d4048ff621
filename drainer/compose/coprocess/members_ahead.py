"""The members among the recipients of one request, looked up for many recipients at once.

In    the recipients in the order in which Mailman will ask for them
Out   install(): Mailman's look-ups of a recipient's membership and address are answered from here
Shell runs in Mailman's Python

Mailman asks for the membership of each recipient of a VERP or personalised mail. Often it needs to know only that there is
one: equal copies are decorated once (equal_copies.py). So a membership is a placeholder until somebody reads it. The first
one that is read is loaded alone, the second one with all others of its batch. Nothing is kept beyond the request but that a
list's members are read, and nothing of a member is shared with another recipient: the key is the exact address.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import copy
from typing import Any, Callable, Sequence  # noqa: UP035 (runs on Python 3.8)

_BATCH = 100  # members looked up with one query; equal to the number of copies in one answer to the parent
_MOST_LISTS = 10_000
_COMPARE_EXACTLY = frozenset(("sqlite", "postgresql"))  # MySQL's collations hold different texts for equal


class _Placeholder:
    """A membership that is loaded when it is read."""

    def __init__(self, load: Callable[[], Any]) -> None:
        self.__dict__["load"] = load

    def __getattr__(self, name: str) -> Any:
        return getattr(self.load(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.load(), name, value)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.load(), memo)


class MembershipChanged(OSError):
    """A member left between two queries. An OSError, since Mailman can compose the mail if it is tried again."""


class MembersAhead:
    """What is known of the recipients to come."""

    def __init__(self) -> None:
        from mailman.config import config

        self.is_delivering = False
        self.addresses: dict[str, Any] = {}
        self._compares_exactly = config.db.engine.dialect.name in _COMPARE_EXACTLY
        self._upcoming: list[str] = []
        self._batch: list[str] = []
        self._placeholders: dict[str, list[Any]] = {}
        self._loaded: dict[str, list[Any]] = {}
        self._read_lists: set[str] = set()

    def begin(self, recipients: Sequence[str]) -> None:
        """From now on Mailman looks up members as recipients, in this order."""
        self.is_delivering = True
        self._upcoming = list(recipients)[::-1]

    def end(self) -> None:
        """The request is over."""
        self.is_delivering = False
        self._upcoming = []
        self._begin_batch([])

    def memberships(self, roster: Any, email: str, ask: Callable[[], list[Any]]) -> list[Any]:
        """A recipient's memberships, perhaps as placeholders."""
        if not self.is_delivering:
            return ask()
        if email not in self._placeholders and self._upcoming:
            self._look_up(roster, email)
        found = self._placeholders.get(email)
        if not found and not self._compares_exactly:
            return ask()  # not a member, or a member that the database finds by its own rule for equal addresses
        return found or []

    def _begin_batch(self, batch: list[str]) -> None:
        self._batch = batch
        self._placeholders = {email: [] for email in batch}
        self._loaded = {}
        self.addresses = {}

    def _look_up(self, roster: Any, email: str) -> None:
        """Which of the next recipients are members."""
        from mailman.model.address import Address
        from mailman.model.member import Member

        if email in self._upcoming:
            del self._upcoming[self._upcoming.index(email) + 1 :]
        batch = self._upcoming[: -_BATCH - 1 : -1]
        del self._upcoming[-len(batch) :]
        self._begin_batch(batch)
        if roster._mlist.list_id in self._read_lists:
            self._load(roster, batch)
            self._placeholders.update(self._loaded)
            return
        for rows in _memberships(roster, batch, Address.email, Member.id):
            for address, _ in rows:
                self._placeholders[address].append(None)
        for address, members in self._placeholders.items():
            if len(members) == 1:
                members[0] = self._placeholder(roster, address)
        several = [address for address, members in self._placeholders.items() if len(members) > 1]
        if several:
            self._load(roster, several)
            self._placeholders.update((address, self._loaded[address]) for address in several)

    def _placeholder(self, roster: Any, email: str) -> _Placeholder:
        def load() -> Any:
            if email not in self._loaded:
                # Whoever reads a second one will read all of them, and those of the list's next mail too.
                is_first = not self._loaded
                if not is_first:
                    if len(self._read_lists) >= _MOST_LISTS:
                        self._read_lists.clear()
                    self._read_lists.add(roster._mlist.list_id)
                self._load(roster, [email] if is_first else [one for one in self._batch if one not in self._loaded])
            if email not in self._loaded:
                raise MembershipChanged(f"{email} has left {roster._mlist.list_id} in this moment")
            return self._loaded[email][0]

        return _Placeholder(load)

    def _load(self, roster: Any, batch: list[str]) -> None:
        from mailman.model.address import Address
        from mailman.model.member import Member
        from mailman.model.user import User
        from sqlalchemy.orm import joinedload

        of_user = joinedload(Member._user)
        of_address = joinedload(Member._address)
        options = (
            joinedload(Member.preferences),
            of_address.joinedload(Address.preferences),
            of_address.joinedload(Address.user).joinedload(User.preferences),
            of_user.joinedload(User.preferences),
            of_user.joinedload(User._preferred_address).joinedload(Address.preferences),
        )
        for rows in _memberships(roster, batch, Address, Member):
            for address, member in rows.options(*options):
                self._loaded.setdefault(address.email, []).append(member)
                self.addresses[address.email] = address


def _memberships(roster: Any, batch: list[str], *columns: Any) -> tuple[Any, Any]:
    """Two queries: for those who are subscribed by address, and for those by their preferred address."""
    from mailman.config import config
    from mailman.model.address import Address
    from mailman.model.member import Member
    from mailman.model.user import User

    rows = config.db.store.query(*columns).filter(
        Member.list_id == roster._mlist.list_id, Member.role == roster.role, Address.email.in_(batch)
    )
    return (
        rows.filter(Member.address_id == Address.id),
        rows.filter(Member.user_id == User.id, User._preferred_address_id == Address.id),
    )


def install(members: MembersAhead, language_of: Callable[[Any, str, Callable[[], Any]], Any]) -> None:
    """Replace Mailman's look-ups.

    language_of  (roster, address, Mailman's own look-up): the membership of a sender, of which Mailman needs the language
    """
    from mailman.interfaces.member import IMember
    from mailman.model.roster import AbstractRoster
    from mailman.model.usermanager import UserManager
    from zope.interface import classImplements

    classImplements(_Placeholder, IMember)
    memberships, get_member = AbstractRoster._get_all_memberships, AbstractRoster.get_member
    get_address = UserManager.get_address

    def all_memberships(roster: Any, email: str) -> list[Any]:
        return members.memberships(roster, email, lambda: memberships(roster, email))

    def member_or_sender(roster: Any, email: str) -> Any:
        if members.is_delivering:
            return get_member(roster, email)
        return language_of(roster, email, lambda: get_member(roster, email))

    def address_of(manager: Any, email: str) -> Any:
        return members.addresses.get(email) or get_address(manager, email)

    AbstractRoster._get_all_memberships = all_memberships
    AbstractRoster.get_member = member_or_sender
    UserManager.get_address = address_of
