"""Reads the plain assignments of a Mailman 2.1 mm_cfg.py, without running anything in it.

In    its text
Out   MmCfg: settings that matter to delivery, in the form of `[mailman] settings`; where the MTA and the queues are; the
      number of other settings; the lines that a person has to judge
Pure  no file is read; nothing in the text is run

It understands NAME = value, where a value is a literal, an earlier plain name, a + or * of these, a text % one or several
of these, or os.path.join() of texts. Every other statement (conditionals, imports, add_language()) is reported with its
line, unless it is known not to matter to delivery. A name that such a statement may change is unknown from then on.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from posixpath import dirname, join

from drainer.compose.mailman2_site import site_settings
from drainer.errors import SettingsError

Value = str | int | float | bool

DELIVERY_SETTINGS = ("VERP_FORMAT", "SMTP_MAX_RCPTS", "RCPT_BASE64_HEADER_NAME", "CGIEXT", "DEFAULT_SERVER_LANGUAGE")
"""The settings of mm_cfg.py that drainer/compose/mailman2_site.py uses."""

_PLACES = ("SMTPHOST", "SMTPPORT", "OUTQUEUE_DIR", "QUEUE_DIR", "QFILES_DIR", "LIST_DATA_DIR", "VAR_PREFIX")
"""The settings that give the place of the MTA and the queues."""

_DEFAULTS: Mapping[str, Value] = {"VERP_FORMAT": "%(bounces)s+%(mailbox)s=%(host)s", "CGIEXT": "", "yes": 1, "no": 0,
                                  "Yes": 1, "No": 0, "YES": 1, "NO": 0, "on": 1, "off": 0, "On": 1, "Off": 0}  # fmt: skip
"""Names of Defaults.py that mm_cfg.py may refer to; it begins with `from Defaults import *`."""
_DELIVERED_BY = ("DELIVERY_MODULE", "SMTPDirect")
"""The setting that names the module for delivery, and its default. The output of any other module is not known."""
_OF_NO_CONCERN = frozenset({"add_virtualhost", "QRUNNERS"})
"""Calls of these, or assignments to them, do not change what is delivered."""
_CONVERSIONS = re.compile(r"%[sd%]|[^%]")
"""Formats without widths: '%999999999d' would fill the memory."""
_LONGEST_TEXT = 10_000
_DEEPEST = 50
_BIGGEST = 1_000_000


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """A statement that a person has to judge. `text`: its first line."""

    line: int
    text: str


@dataclass(frozen=True, slots=True)
class MmCfg:
    """settings: for `[mailman] settings`. others: number of plain assignments that do not matter to delivery.

    mailman, mta  further values for these sections ("queue_dir", "lists_dir"; "host", "port")
    to_check      keys of these that come from a name which Mailman itself may not use, with the reason
    """

    settings: Mapping[str, Value]
    others: int
    not_understood: tuple[NotUnderstood, ...]
    mailman: Mapping[str, str] = field(default_factory=dict)
    mta: Mapping[str, str | int] = field(default_factory=dict)
    to_check: Mapping[str, str] = field(default_factory=dict)


def mm_cfg(text: str) -> MmCfg:
    """Read an mm_cfg.py. Raises SettingsError if it is not Python, or sets an impossible value."""
    try:
        with warnings.catch_warnings():
            # Python 2 accepted any backslash in a text without a warning.
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        where = f" (line {exc.lineno})" if isinstance(exc, SyntaxError) and exc.lineno else ""
        what = exc.msg if isinstance(exc, SyntaxError) else str(exc) or type(exc).__name__
        raise SettingsError(
            f"not an mm_cfg.py{where}: {what}; right would be the file Mailman runs with, "
            "such as /etc/mailman/mm_cfg.py. Remove print statements and numbers like 0777 of Python 2 first"
        ) from exc
    lines = text.splitlines()
    known: dict[str, Value] = dict(_DEFAULTS)
    assigned: set[str] = set()
    not_understood: list[NotUnderstood] = []
    for statement in tree.body:
        if _says_nothing(statement):
            continue
        names, value = _assigned(statement, known)
        if names and value is not None:
            known.update(dict.fromkeys(names, value))
            assigned.update(names)
            if known.get(_DELIVERED_BY[0], _DELIVERED_BY[1]) == _DELIVERED_BY[1] or _DELIVERED_BY[0] not in names:
                continue
        else:
            for name in _names_stored(statement):
                known.pop(name, None)
        line = lines[statement.lineno - 1].strip() if statement.lineno <= len(lines) else ""
        not_understood.append(NotUnderstood(statement.lineno, line))
    settings = {name: known[name] for name in DELIVERY_SETTINGS if name in assigned and name in known}
    site_settings(settings)
    others = len(assigned - {*DELIVERY_SETTINGS, *_PLACES})
    places = {name: known[name] for name in _PLACES if name in assigned and name in known}
    mailman, to_check = _directories({name: value for name, value in places.items() if isinstance(value, str)})
    return MmCfg(settings, others, tuple(not_understood), mailman, _mta(places), to_check)


def _mta(places: Mapping[str, Value]) -> Mapping[str, str | int]:
    """Values for [mta]. Port 0 means the port of smtp in /etc/services."""
    found: dict[str, str | int] = {}
    if isinstance(host := places.get("SMTPHOST"), str) and host:
        found["host"] = host
    port = places.get("SMTPPORT")
    if isinstance(port, int) and not isinstance(port, bool) and 0 <= port <= 65535:
        found["port"] = port or 25
    return found


def _directories(places: Mapping[str, str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The places of the queues and the lists; and which of these a person should check, with the reason.

    Source  Defaults.py of 2.1 makes OUTQUEUE_DIR from QUEUE_DIR, and that and LIST_DATA_DIR from VAR_PREFIX, before
            mm_cfg.py is read. So an assignment to VAR_PREFIX or QUEUE_DIR alone moves nothing
    """
    queue_dirs = {
        "OUTQUEUE_DIR": dirname(places.get("OUTQUEUE_DIR", "")),
        "QUEUE_DIR": places.get("QUEUE_DIR", ""),
        "QFILES_DIR": places.get("QFILES_DIR", ""),
        "VAR_PREFIX": join(places["VAR_PREFIX"], "qfiles") if places.get("VAR_PREFIX") else "",
    }
    lists_dirs = {
        "LIST_DATA_DIR": places.get("LIST_DATA_DIR", ""),
        "VAR_PREFIX": join(places["VAR_PREFIX"], "lists") if places.get("VAR_PREFIX") else "",
    }
    found, to_check = {}, {}
    for key, of_name, certain in (
        ("queue_dir", queue_dirs, "OUTQUEUE_DIR"),
        ("lists_dir", lists_dirs, "LIST_DATA_DIR"),
    ):
        name = next((name for name, value in of_name.items() if value.startswith("/")), "")
        if name:
            found[key] = of_name[name]
            if name != certain:
                to_check[key] = (
                    f"{name} alone does not change {certain}, which Mailman's Defaults.py made from it: check this directory"
                )
    return found, to_check


def _says_nothing(statement: ast.stmt) -> bool:
    """Whether it is a docstring, the import at the start of every mm_cfg.py, or a call that does not matter to delivery."""
    if isinstance(statement, ast.Import):
        return all(alias.name in ("os", "os.path") and alias.asname is None for alias in statement.names)
    if isinstance(statement, ast.Assign):
        return all(isinstance(target, ast.Name) and target.id in _OF_NO_CONCERN for target in statement.targets)
    if isinstance(statement, ast.ImportFrom):
        return statement.module in ("Defaults", "Mailman.Defaults") and [a.name for a in statement.names] == ["*"]
    if not isinstance(statement, ast.Expr):
        return isinstance(statement, ast.Pass)
    call = statement.value
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name):
        return call.func.id in _OF_NO_CONCERN
    return isinstance(call, ast.Constant)


def _assigned(statement: ast.stmt, known: Mapping[str, Value]) -> tuple[tuple[str, ...], Value | None]:
    """The plain names assigned to, and the value; no names or None for any other statement.

    A value of a type that no setting has (list, None, ...) is returned as its text: only whether it is plain matters.
    """
    if not isinstance(statement, ast.Assign):
        return (), None
    names = tuple(target.id for target in statement.targets if isinstance(target, ast.Name))
    if len(names) != len(statement.targets):
        return (), None
    value = _value(statement.value, known, _DEEPEST)
    if value is None and not set(names) & set(DELIVERY_SETTINGS) and _is_literal(statement.value):
        return names, ast.unparse(statement.value)[:_LONGEST_TEXT]
    return names, value


def _value(node: ast.expr, known: Mapping[str, Value], deeper: int) -> Value | None:
    if deeper == 0:
        return None
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str | int | float | bool) and _is_small(node.value) else None
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand, known, deeper - 1)
        return -value if isinstance(value, int | float) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):
        template = _value(node.left, known, deeper - 1)
        operands = node.right.elts if isinstance(node.right, ast.Tuple) else [node.right]
        return _formatted(template, [_value(operand, known, deeper - 1) for operand in operands])
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "os.path.join" and node.args and not node.keywords:
        parts = [_value(part, known, deeper - 1) for part in node.args]
        texts = [part for part in parts if isinstance(part, str)]
        return _small(join(*texts)) if len(texts) == len(parts) else None
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mult):
        left, right = _value(node.left, known, deeper - 1), _value(node.right, known, deeper - 1)
        return _combined(left, right, isinstance(node.op, ast.Add))
    return None


def _combined(left: Value | None, right: Value | None, is_sum: bool) -> Value | None:
    value: Value | None = None
    if isinstance(left, str) and isinstance(right, str) and is_sum:
        value = left + right
    elif isinstance(left, int | float) and isinstance(right, int | float):
        value = left + right if is_sum else left * right
    return value if value is not None and _is_small(value) else None


def _formatted(template: Value | None, operands: list[Value | None]) -> str | None:
    if not isinstance(template, str) or _CONVERSIONS.sub("", template):
        return None
    # Python 2 writes a float with other digits.
    if not all(isinstance(operand, str | int) for operand in operands):
        return None
    try:
        text = template % tuple(operands)
    except TypeError:
        return None
    return text if _is_small(text) else None


def _small(text: str) -> str | None:
    return text if _is_small(text) else None


def _is_small(value: Value) -> bool:
    return len(value) <= _LONGEST_TEXT if isinstance(value, str) else abs(value) <= _BIGGEST**2


def _is_literal(node: ast.expr) -> bool:
    try:
        ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False
    return True


def _names_stored(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.id
