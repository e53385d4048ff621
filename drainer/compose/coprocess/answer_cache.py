"""A cache for look-ups that Mailman's delivery code repeats for every mail; that code itself runs unchanged.

In    how many seconds an answer is valid; Mailman, initialised
Out   AnswerCache; its look-ups have replaced Mailman's own
Shell runs in Mailman's Python

Kept across requests, for `remember_s`: the rows of lists, domains and archivers; which templates are set, and their text, by
final URI; templates found in the file system; archivers and their configuration files; the addresses in the headers that
name a sender, and the sender's language. A missing row of a list, domain or archiver is looked up again each time. The
sections of mailman.cfg are kept for good: Mailman reads it at its start only.
Kept within one request only: members (members_ahead.py). Nothing that depends on a member's row or address is shared with
another recipient, except through the URI of a template, which is its key. With remember_s = 0 Mailman's own code makes
every look-up anew.

Two of Mailman's look-ups also write. They are replaced even with remember_s = 0: ListArchiverSet adds rows for archivers
that a list has no row for (here they exist in memory only), and a fetched template is stored in the file cache.
"""

# mypy: disable-error-code="import-not-found, import-untyped"
from __future__ import annotations

import io
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Hashable, Iterator  # noqa: UP035 (runs on Python 3.8)

if TYPE_CHECKING:
    from drainer.compose.coprocess import equal_copies, members_ahead
    from drainer.compose.coprocess.remembered_rows import KeptRows
else:
    import equal_copies
    import members_ahead
    from remembered_rows import KeptRows

_MOST_ANSWERS = 20_000


class _Raised:
    """An answer that was an exception."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class AnswerCache:
    """Answers kept across requests, and the members of the current request."""

    def __init__(self, remember_s: float) -> None:
        self._remember_s = remember_s
        self._answers: dict[Hashable, tuple[float, Any]] = {}
        self._now_s = 0.0
        self._rows = KeptRows(self._forget)
        self.copies = equal_copies.EqualCopies()
        self.members = members_ahead.MembersAhead()

    @contextmanager
    def request(self) -> Iterator[None]:
        """Around all of Mailman's code for one request."""
        from mailman.config import config

        self._now_s = time.monotonic()
        try:
            yield
        finally:
            self.members.end()
            self.copies.forget()
            store = config.db.store
            if _is_used(store):
                store.close()

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

    def _forget(self) -> None:
        self._answers.clear()
        self.copies.forget()


def _is_used(store: Any) -> bool:
    """Whether a session has rows or a transaction. SQLAlchemy before 1.4 always has one."""
    return not hasattr(store, "in_transaction") or store.in_transaction() or bool(store.identity_map or store.new)


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
    from zope.component import getUtility

    def language_of(roster: Any, email: str, ask: Callable[[], Any]) -> Any:
        def language_of_sender() -> str | None:
            member = ask()
            return None if member is None else member.preferred_language.code

        code = cache.answer(("sender", roster.name, roster._mlist.list_id, email), language_of_sender)
        return None if code is None else _Sender(getUtility(ILanguageManager)[code])

    members_ahead.install(cache.members, language_of)


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
