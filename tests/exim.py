"""A private, genuine Exim for tests: own configuration, spool, log and port; its outbound goes to sinks on loopback.

Needs root and what tests/unpack_exim makes. `needed()` says why a test cannot run, and never excuses a run under CI. The
daemon is started by root, as Debian starts it, and delivers as the user Debian-exim.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.postfix import Address, free_port

_UNPACKED = Path(__file__).parents[1] / ".cache/exim/usr/sbin/exim4"
USER = "Debian-exim"

_CONFIGURATION = """\
exim_path = {program}
spool_directory = {root}/spool
log_file_path = {root}/log/%slog
pid_file_path = {root}/exim.pid
primary_hostname = mail.example.test
keep_environment =
local_interfaces = 127.0.0.1
daemon_smtp_ports = {port}
tls_advertise_hosts =
acl_smtp_rcpt = accept
smtp_accept_max = 100
smtp_accept_queue_per_connection = 0
smtp_accept_max_per_connection = 0
recipients_max = 2000
queue_run_max = 10
remote_max_parallel = 10
deliver_drop_privilege = true
message_logs = false
{options}
begin routers
{routers}
begin transports
to_sink:
  driver = smtp
  connection_max_messages = 50
begin retry
* * F,2h,{retry_s}s
"""
_ROUTER = """\
{name}:
  driver = manualroute
  domains = {domains}
  transport = to_sink
  route_list = * {host}::{port}
  self = send
"""
_SETTLES_WITHIN_S = 20.0
_RECIPIENT = re.compile(r" {10}(\S+@(\S+))")
_ARRIVED = re.compile(r"\S+ \S+ (\S+) <= .* id=(\S+)")
_SENT = re.compile(r"\S+ \S+ (\S+) [=-]> (\S+) ")


def needed() -> None:
    """Skip, saying so, where a private Exim cannot run; fail under CI, where it must."""
    why = ""
    if os.geteuid() != 0:
        why = "a private Exim needs root"
    elif not _UNPACKED.exists():
        why = f"no {_UNPACKED}: tests/unpack_exim .cache/exim"
    elif not any(user.pw_name == USER for user in pwd.getpwall()):
        why = f"no user {USER}: tests/unpack_exim .cache/exim"
    if why and os.environ.get("CI"):
        pytest.fail(f"under CI this must run: {why}")
    if why:
        pytest.skip(why)


@dataclass(frozen=True, slots=True)
class Exim:
    root: Path
    port: int

    @property
    def program(self) -> Path:
        """A copy: Exim runs itself again as its own user, who may not reach the checkout."""
        return self.root / "exim4"

    @property
    def configuration(self) -> Path:
        return self.root / "exim.conf"

    @property
    def log_file(self) -> Path:
        return self.root / "log/mainlog"

    def command(self, *words: str) -> list[str]:
        return [str(self.program), "-C", str(self.configuration), *words]

    def run(self, *words: str) -> str:
        return subprocess.run(self.command(*words), capture_output=True, text=True, check=True).stdout

    def deliveries(self) -> Counter[tuple[str, str]]:
        """(Message-ID, recipient) -> how often the log says it was delivered."""
        message_ids: dict[str, str] = {}
        delivered: Counter[tuple[str, str]] = Counter()
        for line in self.log_file.read_text().splitlines():
            if found := _ARRIVED.match(line):
                message_ids[found[1]] = f"<{found[2]}>"
            elif found := _SENT.match(line):
                delivered[message_ids[found[1]], found[2]] += 1
        return delivered

    def queued(self) -> int:
        """Messages Exim still holds."""
        return int(self.run("-bpc"))

    def queued_by_domain(self) -> Counter[str]:
        """Recipients that Exim still owes, by domain. `exim -bp` marks those that are done with a D."""
        return Counter(found[2] for line in self.run("-bp").splitlines() if (found := _RECIPIENT.fullmatch(line)))


@contextmanager
def running_exim(
    root: Path, providers: Mapping[str, Address], *options: str, retry_s: int = 5, queue_run_s: int = 1
) -> Iterator[Exim]:
    """Start a private Exim under `root` (must be reachable by every user), stop it at the end.

    providers    recipient domain -> where its mail goes; "*": all other domains. The hosts must differ: Exim gives waiting
                 mail to a session that is open to the same host, of whatever port
    options      further lines of the configuration's main section
    retry_s      wait before the next attempt; queue_run_s: between two runs of the queue
    """
    port = free_port()
    owner = pwd.getpwnam(USER)
    root.mkdir(parents=True, mode=0o755, exist_ok=True)
    for name in ("spool", "log"):
        (root / name).mkdir(mode=0o750)
        os.chown(root / name, owner.pw_uid, owner.pw_gid)
    routers = [
        _ROUTER.format(name=f"provider{number}", domains=domain, host=host, port=to)
        for number, (domain, (host, to)) in enumerate(sorted(providers.items(), key=lambda item: item[0] == "*"))
    ]
    exim = Exim(root, port)
    shutil.copy2(_UNPACKED, exim.program)
    exim.configuration.write_text(
        _CONFIGURATION.format(
            program=exim.program,
            root=root,
            port=port,
            retry_s=retry_s,
            options="\n".join(options),
            routers="".join(routers),
        )
    )
    with (root / "output").open("wb") as output:
        daemon = subprocess.Popen(exim.command("-bdf", f"-q{queue_run_s}s"), stdout=output, stderr=output)
    try:
        _wait_until_it_listens(exim, daemon)
        yield exim
    finally:
        daemon.terminate()
        daemon.wait()
        _wait_for_its_deliveries(root)


def _wait_until_it_listens(exim: Exim, daemon: subprocess.Popen[bytes]) -> None:
    deadline_s = time.monotonic() + _SETTLES_WITHIN_S
    while not (exim.log_file.exists() and " daemon started: " in exim.log_file.read_text()):
        if daemon.poll() is not None or time.monotonic() > deadline_s:
            raise AssertionError(f"Exim does not start: {(exim.root / 'output').read_text()}")
        time.sleep(0.02)


def _wait_for_its_deliveries(root: Path) -> None:
    """Deliveries and queue runs are processes of their own, which end by themselves soon after the daemon."""
    deadline_s = time.monotonic() + _SETTLES_WITHIN_S
    while _processes_of(root) and time.monotonic() < deadline_s:
        time.sleep(0.05)


def _processes_of(root: Path) -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(root / "exim.conf").encode() in words:
            found.append(process.name)
    return found
