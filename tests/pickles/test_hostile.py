"""No pickle runs anything, grows the process out of proportion, or makes what it leaves endless to walk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from drainer.errors import EntryUnreadable, UnsafePickle
from drainer.pickles.restricted import load_one, load_pair
from tests.pickles.hostile import CANARY, COSTS_TOO_MUCH, RUNS_CODE
from tests.pickles.samples import ROOT

METADATA = b"}."


@pytest.mark.parametrize("name", RUNS_CODE)
def test_pickle_that_would_run_or_reach_something_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for opened in (load_one, load_pair):
        with pytest.raises(EntryUnreadable):
            opened(RUNS_CODE[name] + METADATA)
    with pytest.raises(EntryUnreadable):
        load_pair(b"N." + RUNS_CODE[name])
    assert not (tmp_path / CANARY).exists()


def test_canary_would_be_seen(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", "import pickle, sys; pickle.load(sys.stdin.buffer)"],
                   input=RUNS_CODE["posix.system"], cwd=tmp_path, check=True)  # fmt: skip
    assert (tmp_path / CANARY).exists()


@pytest.mark.parametrize("name", COSTS_TOO_MUCH)
def test_pickle_that_would_cost_more_than_its_size_justifies_is_refused(name: str) -> None:
    with pytest.raises(EntryUnreadable):
        load_one(COSTS_TOO_MUCH[name])


@pytest.mark.parametrize(
    "name", ["os.system", "dotted name in an allowed module", "our own module", "copyreg extension 1", "persistent id"]
)
def test_reason_for_names_off_the_list_is_unsafe_pickle(name: str) -> None:
    with pytest.raises(UnsafePickle):
        load_one(RUNS_CODE[name])


def test_name_off_the_list_is_in_the_reason() -> None:
    with pytest.raises(UnsafePickle, match="'posix' 'system'"):
        load_one(RUNS_CODE["posix.system"])


_MEASURED = """
import json, resource, sys
from drainer.errors import EntryUnreadable
from drainer.pickles.restricted import load_one

def peak_kib():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))

raw = sys.stdin.buffer.read()
before = peak_kib()
try:
    kept = load_one(raw)
    outcome = "opened"
except EntryUnreadable as refused:
    outcome = refused.reason
print(json.dumps([outcome, (peak_kib() - before) * 1024, len(raw)]))
"""

_EACH_IN_A_FORK = """
import json, os, resource, sys
from drainer.errors import EntryUnreadable
from drainer.pickles.restricted import load_one
from tests.pickles.hostile import COSTS_TOO_MUCH, RUNS_CODE

def kib(name):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(name))

sys.stdout.write("{")
for number, (name, raw) in enumerate((RUNS_CODE | COSTS_TOO_MUCH).items()):
    read_end, write_end = os.pipe()
    if not os.fork():
        bound = kib("VmSize:") * 1024 + 16 * len(raw) + 64 * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))
        before = kib("VmHWM:")
        try:
            load_one(raw)
            outcome = "opened"
        except EntryUnreadable as refused:
            outcome = refused.reason
        except MemoryError:
            outcome = "out of memory"
        os.write(write_end, json.dumps([outcome, (kib("VmHWM:") - before) * 1024, len(raw)]).encode())
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as answer:
        said = answer.read().decode() or '["killed", 0, 0]'
    os.wait()
    sys.stdout.write(("," if number else "") + json.dumps(name) + ":" + said)
sys.stdout.write("}")
"""

MOST_CPU_S = 30
"""Seconds of processor for any pickle of the corpus; the slowest took 0.9 (2026-11-22, two busy cores)."""


def test_no_hostile_pickle_passes_the_bound_on_memory_or_takes_long() -> None:
    """Each in a process of its own, whose address space may grow by sixteen times the size and 64 MiB, and no more."""
    done = subprocess.run(
        [sys.executable, "-c", _EACH_IN_A_FORK.replace("MOST_CPU_S", str(MOST_CPU_S))],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, tuple[str, int, int]] = json.loads(done.stdout)
    assert found.keys() == (RUNS_CODE | COSTS_TOO_MUCH).keys()
    refused = {"truncated", "garbage", "unsafe_pickle"}
    assert {name: said for name, said in found.items() if said[0] not in refused} == {}
    assert {name: said for name, said in found.items() if said[1] > 16 * said[2] + 64 * 2**20} == {}


_DENSE = {
    "sets": b"(" + b"\x8f" * 95_000 + b"t.",
    "lists of one": b"(" + b"]Na" * 120_000 + b"t.",
    "dictionaries of one": b"(" + b"}NNs" * 1_000 + b"}\x8c\x02abNs" * 80_000 + b"t.",
    "texts of two letters": b"(" + b"\x8c\x02ab" * 400_000 + b"t.",
    "memoized texts of two letters": b"(" + b"\x8c\x02ab\x94" * 200_000 + b"t.",
    "wide texts": b"(" + b"X\x00\x00\x10\x00" + "\U0001f4a9".encode() + b"x" * (2**20 - 4) + b"t.",
    "five million empty sets": COSTS_TOO_MUCH["five million empty sets"],
    "five million empty dictionaries": COSTS_TOO_MUCH["five million empty dictionaries"],
    "nested lists": COSTS_TOO_MUCH["nested lists"],
    "LONG_BINPUT of 2**31": COSTS_TOO_MUCH["LONG_BINPUT of 2**31"],
    "eight MiB of small texts": b"(" + b"\x8c\x06abcdef" * 2**20 + b"t.",
    "eight MiB of addresses in a set": b"\x8f("
    + b"".join(b"\x8c\x16%016x@e.com\x94" % n for n in range(8 * 2**20 // 25)) + b"\x90.",
}  # fmt: skip


@pytest.mark.parametrize("name", _DENSE)
def test_peak_memory_stays_within_sixteen_times_the_size_and_64_mib(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED], input=_DENSE[name], cwd=ROOT, check=True, capture_output=True
    )
    outcome, grown, size = json.loads(done.stdout)
    assert grown <= 16 * size + 64 * 2**20, f"{outcome}: {grown / 2**20:.0f} MiB for {size / 2**20:.2f} MiB"
    assert outcome in ("opened", "unsafe_pickle")
