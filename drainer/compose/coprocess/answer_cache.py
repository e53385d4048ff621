"""A cache for look-ups that Mailman's delivery code repeats for every mail; that code itself runs unchanged.

In    how many seconds an answer is valid; Mailman, initialised
Out   AnswerCache; its look-ups have replaced Mailman's own
Shell runs in Mailman's Python

Kept across requests, for `remember_s`: the rows of lists, domains and archivers; which templates are set, and their text, by
final URI; templates found in the file system; archivers and their configuration files; the addresses in the headers that
name a sender, and the sender's language. A missing row of a list, domain or archiver is looked up again each time. The
sections of mailman.cfg are kept for good: Mailman reads it at its start only.
Kept within one request only: members, fetched for many recipients with one query, by exact address. Nothing that depends on
a member's row or address is shared with another recipient, except through the URI of a template, which is its key. With
remember_s = 0 Mailman's own code makes every look-up anew.

Two of Mailman's look-ups also write. They are replaced even with remember_s = 0: ListArchiverSet adds rows for archivers
that a list has no row for (here they exist in memory only), and a fetched template is stored in the file cache.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import io
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Hashable, Iterator, Sequence  # noqa: UP035 (runs on Python 3.8)

if TYPE_CHECKING:
    from drainer.compose.coprocess import equal_copies
    from drainer.compose.coprocess.remembered_rows import KeptRows
else:
    import equal_copies
    from remembered_rows import KeptRows

_MOST_ANSWERS = 20_000
_COMPARE_EXACTLY = frozenset(("sqlite", "postgresql"))  # MySQL's collations hold different texts for equal
_BATCH = 100  # members fetched with one query; equal to the number of copies in one answer to the parent


class _Raised:
    """An answer that was an exception."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class AnswerCache:
    """Answers kept across requests, and the members of the current request."""

    def __init__(self, remember_s: float) -> None:
        from mailman.config import config

        self._remember_s = remember_s
        self._answers: dict[Hashable, tuple[float, Any]] = {}
        self._now_s = 0.0
        self._upcoming: list[str] = []
        self._fetched: set[str] = set()
        self._members: dict[str, list[Any]] = {}
        self._rows = KeptRows(self._forget)
        self.copies = equal_copies.EqualCopies()
        self.addresses: dict[str, Any] = {}
        self.is_delivering = False
        self._compares_exactly = config.db.engine.dialect.name in _COMPARE_EXACTLY

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around all of Mailman's code for one request."""
        from mailman.config import config

        self._now_s = time.monotonic()
        try:
            yield
        finally:
            self.is_delivering = False
            self._upcoming = []
            self._forget_members()
            self.copies.forget()
            store = config.db.store
            if store.in_transaction() or store.identity_map or store.new:
                store.close()

    def begin_delivery(self, recipients: Sequence[str]) -> None:
        """From now on Mailman looks up members as recipients, in this order."""
        self.is_delivering = True
        self._upcoming = list(recipients)[::-1]

    def answer(self, key: Hashable, ask: Callable[[], Any], *, expected: type[Exception] | tuple[()] = ()) -> Any:
        """The last answer of `ask`, or a new one. Exceptions of class `expected` are kept like answers, others are not."""
        known = self._answers.get(key)
        if known is None or known[0] <= self._now_s:
            try:
                found = ask()
            except expected as exc:
                found = _Raised(exc)
            if self._remember_s:
                if len(self._answers) >= _MOST_ANSWERS:
                    self._answers.clear()
                self._answers[key] = (self._now_s + self._remember_s, found)
        else:
            found = known[1]
        if isinstance(found, _Raised):
            raise found.error
        return found

    def row(self, key: Hashable, ask: Callable[[], Any]) -> Any:
        """A row that outlives its session, as it was loaded. None is not kept, nor a row that somebody changed."""
        found = self.answer(key, lambda: self._rows.keep(ask()))
        if found is not None and found._sa_instance_state.modified:
            self._forget()
            found = self.answer(key, lambda: self._rows.keep(ask()))
        if found is None:
            self._answers.pop(key, None)
        return found

    def memberships(self, roster: Any, email: str, ask: Callable[[], list[Any]]) -> list[Any]:
        """A recipient's memberships, fetched together with those of the next recipients."""
        if not self._remember_s or not self.is_delivering:
            return ask()
        if email not in self._fetched and self._upcoming:
            self._fetch_members(roster, email)
        found = self._members.get(email)
        if found is None and not self._compares_exactly:
            return ask()  # not a member, or a member that the database finds by its own rule for equal addresses
        return found or []

    def _forget(self) -> None:
        self._answers.clear()
        self.copies.forget()

    def _forget_members(self) -> None:
        self._fetched.clear()
        self._members.clear()
        self.addresses.clear()

    def _fetch_members(self, roster: Any, email: str) -> None:
        from mailman.config import config
        from mailman.model.address import Address
        from mailman.model.member import Member
        from mailman.model.user import User
        from sqlalchemy.orm import joinedload

        if email in self._upcoming:
            del self._upcoming[self._upcoming.index(email) + 1 :]
        batch = self._upcoming[: -_BATCH - 1 : -1]
        del self._upcoming[-len(batch) :]
        self._forget_members()
        self._fetched.update(batch)
        of_user = joinedload(Member._user)
        of_address = joinedload(Member._address)
        options = (
            joinedload(Member.preferences),
            of_address.joinedload(Address.preferences),
            of_address.joinedload(Address.user).joinedload(User.preferences),
            of_user.joinedload(User.preferences),
            of_user.joinedload(User._preferred_address).joinedload(Address.preferences),
        )
        rows = config.db.store.query(Address, Member).filter(
            Member.list_id == roster._mlist.list_id, Member.role == roster.role, Address.email.in_(batch)
        )
        for joined in (
            rows.filter(Member.address_id == Address.id),
            rows.filter(Member.user_id == User.id, User._preferred_address_id == Address.id),
        ):
            for address, member in joined.options(*options):
                self._members.setdefault(address.email, []).append(member)
                self.addresses[address.email] = address


class _Sender:
    """What the runner needs of the sender's membership."""

    def __init__(self, preferred_language: Any) -> None:
        self.preferred_language = preferred_language


def install(remember_s: float) -> AnswerCache:
    """Replace Mailman's look-ups by those of an AnswerCache."""
    from mailman.config import config

    config.db.sessionmaker.remove()  # the session of the start would keep its options
    config.db.sessionmaker.configure(autoflush=False)
    cache = AnswerCache(remember_s)
    _replace_writers(cache)
    if remember_s:
        _cache_rows(cache)
        _cache_members(cache)
        _cache_templates(cache)
        _cache_archivers(cache)
        _cache_senders(cache)
        _cache_sections()
        equal_copies.install(cache.copies)
    return cache


def _replace_writers(cache: AnswerCache) -> None:
    from mailman.config import config
    from mailman.model.cache import CacheManager
    from mailman.model.mailinglist import ListArchiver, ListArchiverSet

    def rows(list_set: Any) -> list[Any]:
        mlist = list_set._mailing_list
        found = config.db.store.query(ListArchiver).filter(ListArchiver.mailing_list_id == mlist.id).all()
        for row in found:
            config.db.store.expunge(row)
        named = {row.name for row in found}
        return [*found, *(ListArchiver(None, item.name, item) for item in config.archivers if item.name not in named)]

    def archivers(list_set: Any) -> Iterator[Any]:
        yield from cache.answer(("archivers", list_set._mailing_list.list_id), lambda: rows(list_set))

    def keep_list(list_set: Any, mlist: Any) -> None:
        list_set._mailing_list = mlist

    def keep_nothing(manager: Any, key: str, contents: Any, lifetime: Any = None) -> str:
        file_id: str = manager._key_to_file_id(key)
        return file_id

    ListArchiverSet.__init__ = keep_list
    ListArchiverSet.archivers = property(archivers)
    CacheManager.add = keep_nothing


def _cache_rows(cache: AnswerCache) -> None:
    from mailman.config import config
    from mailman.model.domain import DomainManager
    from mailman.model.listmanager import ListManager

    by_id, by_name, domain_of = ListManager.get_by_list_id, ListManager.get_by_fqdn, DomainManager.get

    counts_posts = int(config.mta.verp_delivery_interval) > 1

    def list_row(name: str, ask: Callable[[], Any]) -> Any:
        found = cache.row(("list", name), ask)
        if found is not None and counts_posts:
            # It decides about VERP and changes with every post: read again.
            if found not in config.db.store:
                config.db.store.add(found)
            config.db.store.expire(found, ["post_id"])
        return found

    def get_by_list_id(manager: Any, list_id: str) -> Any:
        return list_row(list_id, lambda: by_id(manager, list_id))

    def get_by_fqdn(manager: Any, name: str) -> Any:
        return list_row(name, lambda: by_name(manager, name))

    def get_domain(manager: Any, mail_host: str, default: Any = None) -> Any:
        found = cache.row(("domain", mail_host), lambda: domain_of(manager, mail_host))
        return default if found is None else found

    ListManager.get_by_list_id = get_by_list_id
    ListManager.get_by_fqdn = get_by_fqdn
    DomainManager.get = get_domain


def _cache_members(cache: AnswerCache) -> None:
    from mailman.interfaces.languages import ILanguageManager
    from mailman.model.roster import AbstractRoster
    from mailman.model.usermanager import UserManager
    from zope.component import getUtility

    memberships, get_member = AbstractRoster._get_all_memberships, AbstractRoster.get_member
    get_address = UserManager.get_address

    def all_memberships(roster: Any, email: str) -> list[Any]:
        return cache.memberships(roster, email, lambda: memberships(roster, email))

    def member_or_sender(roster: Any, email: str) -> Any:
        if cache.is_delivering:
            return get_member(roster, email)

        def language_of_sender() -> str | None:
            member = get_member(roster, email)
            return None if member is None else member.preferred_language.code

        code = cache.answer(("sender", roster.name, roster._mlist.list_id, email), language_of_sender)
        return None if code is None else _Sender(getUtility(ILanguageManager)[code])

    def address_of(manager: Any, email: str) -> Any:
        return cache.addresses.get(email) or get_address(manager, email)

    AbstractRoster._get_all_memberships = all_memberships
    AbstractRoster.get_member = member_or_sender
    UserManager.get_address = address_of


def _cache_templates(cache: AnswerCache) -> None:
    from mailman.model import template
    from mailman.utilities.string import expand

    manager = template.TemplateManager
    fetch, raw, find = manager.get, manager.raw, template.find

    def which(templates: Any, name: str, context: str | None) -> tuple[str, str] | None:
        row = raw(templates, name, context)
        return None if row is None else (row.uri, row.username)

    def get(templates: Any, name: str, context: str | None, **kws: Any) -> Any:
        found = cache.answer(("template", name, context), lambda: which(templates, name, context))
        if found is None:
            return None
        key = ("contents", name, context, expand(found[0], None, kws))
        return cache.answer(key, lambda: fetch(templates, name, context, **kws))

    def read(name: str, mlist: Any, language: str | None) -> tuple[str, str]:
        path, stream = find(name, mlist, language)
        with stream:
            return path, stream.read()

    def find_again(name: str, mlist: Any = None, language: str | None = None, _trace: bool = False) -> tuple[str, Any]:
        of_list = None if mlist is None else (mlist.list_id, mlist.preferred_language.code)
        key = ("file", name, of_list, language)
        path, text = cache.answer(key, lambda: read(name, mlist, language), expected=template.TemplateNotFoundError)
        return path, io.StringIO(text)

    manager.get = get
    template.find = find_again


def _cache_archivers(cache: AnswerCache) -> None:
    from mailman.archiving import mailarchive
    from mailman.config.config import Configuration

    instances, parsed = Configuration.archivers.fget, mailarchive.external_configuration

    def archivers(configuration: Any) -> Iterator[Any]:
        yield from cache.answer("archivers", lambda: list(instances(configuration)))

    def external_configuration(path: str) -> Any:
        return cache.answer(("configuration", path), lambda: parsed(path))

    Configuration.archivers = property(archivers)
    mailarchive.external_configuration = external_configuration


def _cache_senders(cache: AnswerCache) -> None:
    from mailman.config import config
    from mailman.email.message import Message

    senders = Message.senders.fget

    def remembered(msg: Any) -> list[str]:
        named = config.mailman.sender_headers.lower().split()
        fields = [value for name, value in msg._headers if name.lower() in named]
        if not all(type(value) is str for value in fields):
            found: list[str] = senders(msg)
            return found
        # By name: the names say in which order the fields count.
        key = ("senders", msg.get_unixfrom(), *(field for field in msg._headers if field[0].lower() in named))
        return list(cache.answer(key, lambda: senders(msg)))

    Message.senders = property(remembered)


def _cache_sections() -> None:
    """Mailman's configuration looks through all its sections for each `config.mta`."""
    from mailman.config.config import Configuration

    genuine = Configuration.__getattr__
    known: dict[str, tuple[Any, Any]] = {}

    def section(configuration: Any, name: str) -> Any:
        if name == "_config":
            return genuine(configuration, name)
        overlay = configuration._config.data
        found = known.get(name)
        if found is None or found[0] is not overlay:
            found = known[name] = overlay, genuine(configuration, name)
        return found[1]

    Configuration.__getattr__ = section
