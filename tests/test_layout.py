"""The functional core stays a core: no I/O, no clock, and nothing of ours but other core modules.

The marks (`*`) are those of the style guide's tree, and every module whose docstring says "Pure" is held to it.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "drainer"

MARKED = frozenset(
    """
    errors settings/section settings/mailman settings/mta settings/feed settings/ledger settings/surroundings
    text/logfmt text/wording text/columns text/markup
    pickles/restricted pickles/allowed pickles/standins pickles/narrowed pickles/prescan
    pickles/machine pickles/opcodes
    queuedir/filebase queuedir/entry queuedir/misplaced queuedir/plaintext queuedir/list_names
    ledger/states ledger/records ledger/contract
    duplicates/canonical duplicates/decoration duplicates/mail_facts duplicates/fingerprint duplicates/summary
    duplicates/classes duplicates/decision duplicates/carried duplicates/known_from_log
    mta_log/answer
    backlog/work backlog/splits backlog/values backlog/selection
    guards/verdict
    estimate/rates estimate/drain_time estimate/service_rate estimate/arrivals estimate/interruptions
    estimate/completion estimate/forecaster estimate/ceilings estimate/per_list estimate/before_drain estimate/backtest/trace
    estimate/backtest/scores estimate/backtest/replay observe/finish estimate/mixture
    compose/wire compose/transactions compose/mailman2 compose/coprocess/frames
    compose/mailman2_charset compose/mailman2_decorate compose/mailman2_envelope compose/mailman2_flatten
    compose/mailman2_header compose/mailman2_part compose/mailman2_site compose/python27_codecs
    feed/pick feed/shaping feed/adaptive_rate feed/outcome feed/refusals feed/retry feed/dsn feed/transaction
    via_mailman/whereabouts stages/ending stages/hold_reasons
    report/snapshot report/metrics report/burn_down report/notices report/service_state
    report/web/page report/web/page_tables report/web/chart report/terminal/status report/words report/hints
    control/messages/base control/messages/entries control/messages/finish control/messages/journal
    control/messages/log_import control/messages/pauses_and_rates
    """.split()
)

IO_MODULES = frozenset(
    """
    os socket ssl select selectors asyncio threading multiprocessing subprocess signal time sqlite3 shutil tempfile
    glob fcntl mmap pwd grp resource smtplib http urllib.request logging random secrets uuid
    aiohttp aiosmtplib asyncio_throttle psutil uvloop typer rich pydantic_settings prometheus_client
    """.split()
)

NEEDED = {
    "compose/coprocess/captured_smtp": {"smtplib"},
    "compose/coprocess/serialising": {"smtplib"},
    "ledger/records": {"uuid"},
    "report/metrics": {"prometheus_client"},
    "text/columns": {"rich"},
}
"""captured_smtp stands in for Mailman's SMTP connection, so it is a subclass of it; it never connects; serialising
replaces how smtplib writes an address. An attempt has an id
from the moment it is made: uuid has the type and the random number. Of prometheus_client the metrics
use the text writer only, on values they pass to it; no registry, no server. Of rich the columns use the table of character
widths (rich.cells) only; no console."""

FILE_OPENERS = frozenset({"open", "open_code", "FileIO"})

FILE_METHODS = frozenset(
    """
    open read_text read_bytes write_text write_bytes unlink rename replace mkdir rmdir touch iterdir glob rglob exists
    is_file is_dir stat lstat chmod resolve
    """.split()
)


def says_pure(path: Path) -> bool:
    """Whether the module's docstring has a line that begins with "Pure"."""
    before, _, rest = path.read_text("utf-8").partition('"""')
    return not before and "\nPure " in rest.partition('"""')[0]


CORE = MARKED | {
    path.relative_to(PACKAGE).with_suffix("").as_posix() for path in PACKAGE.rglob("*.py") if says_pure(path)
}


def present() -> list[str]:
    return sorted(name for name in CORE if (PACKAGE / f"{name}.py").is_file())


def imported(tree: ast.AST) -> set[str]:
    """Every module the file imports when it runs; what only the type checker sees is left out."""
    found: set[str] = set()
    checked_only = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        if id(node) in checked_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where a name comes from"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("name", present())
def test_core_module_imports_no_io_and_only_core(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text("utf-8"))
    modules = imported(tree)
    touching = {
        module for module in modules if {module, module.partition(".")[0]} & IO_MODULES - NEEDED.get(name, set())
    }
    assert not touching, f"{name} is core and imports {sorted(touching)}"
    ours = {
        module.removeprefix("drainer.").replace(".", "/")
        for module in modules
        if module.startswith("drainer.") and _is_module(module)
    }
    assert ours <= CORE, f"{name} is core and imports shell modules {sorted(ours - CORE)}"


@pytest.mark.parametrize("name", present())
def test_core_module_awaits_nothing_and_opens_nothing(name: str) -> None:
    tree = ast.parse((PACKAGE / f"{name}.py").read_text("utf-8"))
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith), f"{name}:{node.lineno} awaits"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in {"open", "print", "input", "exec", "eval"}, (
                f"{name}:{node.lineno} {node.func.id}()"
            )
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "io":
            assert node.attr not in FILE_OPENERS, f"{name}:{node.lineno} io.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "io":
            assert not {alias.name for alias in node.names} & FILE_OPENERS, f"{name}:{node.lineno}"
        if isinstance(node, ast.ImportFrom) and node.module == "pathlib":
            calls = {
                inner.func.attr
                for inner in ast.walk(tree)
                if isinstance(inner, ast.Call) and isinstance(inner.func, ast.Attribute)
            }
            assert not calls & FILE_METHODS - {"replace"}, f"{name} uses pathlib and calls {calls & FILE_METHODS}"


def test_every_marked_module_is_on_disk() -> None:
    assert sorted(CORE - set(present())) == [], "a mark without its file holds nothing: take it out, or mend the name"


def _is_module(dotted: str) -> bool:
    path = PACKAGE.parent / dotted.replace(".", "/")
    return path.with_suffix(".py").is_file()


MOST_LINES = 400
MOST_ON_TOP = 12


def test_no_module_is_longer_than_a_sitting() -> None:
    lines = {
        path.relative_to(PACKAGE).as_posix(): len(path.read_text("utf-8").splitlines())
        for path in PACKAGE.rglob("*.py")
    }
    assert {name: count for name, count in lines.items() if count > MOST_LINES} == {}, "split by responsibility"


def test_top_level_stays_small() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= MOST_ON_TOP, "a new module belongs into a package"


def test_every_package_says_what_it_is_for() -> None:
    silent = [
        path.parent.name
        for path in PACKAGE.rglob("__init__.py")
        if not ast.get_docstring(ast.parse(path.read_text("utf-8")))
    ]
    assert silent == []
