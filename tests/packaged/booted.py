"""A genuine systemd, first process of namespaces of its own, on a machine that looks like a fresh mail host.

In    an empty directory
Out   Machine: /etc, /opt, /run, /srv, /tmp and /var are the machine's own, below that directory; commands run inside; units
      start in the sandbox their directives ask for, by the systemd that mail hosts have
Needs root and Debian's systemd package

What is not inside: the network, which is the outer one, so that a unit reaches an SMTP server of the test's. Outside nothing
changes: what the machine may write lies below the directory, its control group is removed again.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.scenarios.running import eventually

PROJECT = Path(__file__).parents[2]
SYSTEMD = Path("/lib/systemd/systemd")
WITHIN_S = 120.0

_UNITS = {
    # Debian's sysinit.target would set up the outer machine's devices and kernel.
    "machine.target": "[Unit]\nDescription=A mail host\nAllowIsolate=yes\n",
    "sysinit.target": "[Unit]\nDefaultDependencies=no\nWants=systemd-journald.service\nAfter=systemd-journald.service\n",
    "basic.target": "[Unit]\nDefaultDependencies=no\nRequires=sysinit.target\nAfter=sysinit.target\n",
    "multi-user.target": "[Unit]\nRequires=basic.target\nAfter=basic.target\n",
    "shutdown.target": "[Unit]\nDefaultDependencies=no\n",
}
_JOURNALD = ("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket")

_OUTER = """\
set -e
mount --make-rprivate /
mount -t cgroup2 cgroup2 {cgroups}
mkdir {cgroups}/{name}
echo $$ > {cgroups}/{name}/cgroup.procs
umount {cgroups}
exec unshare --mount --pid --fork --kill-child --cgroup --uts --mount-proc /bin/sh -c {inner}
"""
_INNER = """\
set -e
hostname lists.example.org
{binds}
mount -o remount,bind,ro /
mount -o remount,bind,ro /sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
ldconfig
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8 \\
    SYSTEMD_UNIT_PATH=/etc/systemd/system SYSTEMD_GENERATOR_PATH= \\
    {systemd} --system --unit=machine.target --show-status=no --log-target=journal
"""
_REMOVE_CGROUP = """\
mount --make-rprivate / && mount -t cgroup2 cgroup2 {cgroups} && find {cgroups}/{name} -depth -type d -exec rmdir {{}} +
"""


def needed() -> None:
    """Skip, saying so, where no systemd can be started; fail under CI, where it must."""
    why = ""
    if os.geteuid() != 0:
        why = "a systemd of its own needs root"
    elif not SYSTEMD.exists():
        why = "no systemd: apt-get install systemd"
    if why and os.environ.get("CI"):
        pytest.fail(f"under CI this must run: {why}")
    if why:
        pytest.skip(why)


@dataclass(frozen=True, slots=True)
class Machine:
    """root  where its /etc, /opt, /run and /var are seen from outside; pid  its first process, as seen from outside"""

    root: Path
    pid: int

    def run(self, *command: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        """A command inside, as root, in the project's directory."""
        done = subprocess.run(
            ["nsenter", "-t", str(self.pid), "-m", "-p", "-C", "-u", f"--wd={PROJECT}", *map(str, command)],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert not check or done.returncode == 0, f"{shlex.join(map(str, command))}: {done.stdout}{done.stderr}"
        return done

    def place(self, inside: str | Path) -> Path:
        """Where a path of the machine's is outside."""
        return self.root / str(inside).lstrip("/")

    def write(self, inside: str, text: str) -> Path:
        path = self.place(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def journal(self, unit: str, after: str = "") -> str:
        """What the unit said, and what systemd said of it, after that `cursor`."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "-q", "-o", "cat", "-u", unit, f"--after-cursor={after}").stdout

    def cursor(self) -> str:
        """Where the journal ends now."""
        self.run("journalctl", "--sync")
        return self.run("journalctl", "-q", "-n", "1", "--show-cursor").stdout.rpartition("cursor: ")[2].strip()


def fresh(root: Path) -> None:
    """What a mail host has before anything of ours: users, an empty /var, units of systemd's own."""
    shutil.copytree("/etc", root / "etc", symlinks=True)
    units = root / "etc/systemd/system"
    shutil.rmtree(units)
    units.mkdir()
    for name, text in _UNITS.items():
        (units / name).write_text(text)
    for name in _JOURNALD:
        shutil.copy(Path("/lib/systemd/system") / name, units / name)
    (root / "etc/systemd/journald.conf").write_text("[Journal]\nReadKMsg=no\nStorage=volatile\nRateLimitBurst=0\n")
    (root / "etc/machine-id").write_text(f"{os.urandom(16).hex()}\n")
    (root / "etc/fstab").write_text("")
    for name in ("opt", "run", "srv", "tmp", "var/lib", "var/log", "var/cache/ldconfig", "var/spool", "var/tmp"):
        (root / name).mkdir(parents=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    (root / "var/run").symlink_to("/run")
    journal = root / "run/log/journal"
    journal.mkdir(parents=True)
    shutil.chown(journal, "root", "systemd-journal")
    journal.chmod(0o2755)


def python_inside(root: Path, home: str, site_packages: Path) -> list[tuple[Path, str]]:
    """Make a venv at `home`, of this Python and another venv's packages. Returns what has to be mounted where.

    The Python itself is mounted below /opt: it may lie in root's home, which the unit does not see.
    """
    own, version = root / home.lstrip("/"), f"python{sys.version_info[0]}.{sys.version_info[1]}"
    (own / "bin").mkdir(parents=True)
    (own / "lib" / version / "site-packages").mkdir(parents=True)
    (own / "bin/python3").symlink_to(f"/opt/python/bin/{version}")
    (own / "bin/python").symlink_to("python3")
    (own / "pyvenv.cfg").write_text("home = /opt/python/bin\ninclude-system-site-packages = false\n")
    (root / "opt/python").mkdir(exist_ok=True)
    (root / "etc/ld.so.conf.d").mkdir(exist_ok=True)
    (root / "etc/ld.so.conf.d/python.conf").write_text("/opt/python/lib\n")
    return [
        (Path(sys.base_prefix), "/opt/python"),
        (site_packages, f"{home}/lib/{version}/site-packages"),
    ]


def drainer_inside(root: Path) -> list[tuple[Path, str]]:
    """What `python3 -m venv /opt/drainer` and `pip install .` leave there. Returns what has to be mounted where."""
    site_packages = next(Path(sys.prefix).glob("lib/python*/site-packages"))
    mounts = python_inside(root, "/opt/drainer", site_packages)
    script = root / "opt/drainer/bin/drainer"
    script.write_text(
        "#!/opt/drainer/bin/python3\nimport sys\nsys.path.insert(0, '/opt/drainer/src')\n"
        "from drainer.cli.main import main\nsys.exit(main())\n"
    )
    script.chmod(0o755)
    (root / "opt/drainer/src/drainer").mkdir(parents=True)
    return [*mounts, (PROJECT / "drainer", "/opt/drainer/src/drainer")]


@contextmanager
def booted(root: Path, mounts: list[tuple[Path, str]]) -> Iterator[Machine]:
    """mounts  what is seen inside too, read-only: path outside, path inside (below /etc, /opt, /var)

    What lies in `root` before is the machine's already.
    """
    cgroups, name = root.with_name(f"{root.name}.cgroups"), f"drainer-test-{os.getpid()}"
    cgroups.mkdir()
    binds = [f"mount --bind {shlex.quote(str(root / where))} /{where}" for where in ("etc", "opt", "run", "srv", "var")]
    for outside, inside in dict.fromkeys(mounts):
        where = shlex.quote(inside)
        binds += [f"mount --bind {shlex.quote(str(outside))} {where}", f"mount -o remount,bind,ro {where}"]
    binds.append(f"mount --bind {shlex.quote(str(root / 'tmp'))} /tmp")
    inner = _INNER.format(binds="\n".join(binds), systemd=SYSTEMD)
    outer = _OUTER.format(cgroups=shlex.quote(str(cgroups)), name=name, inner=shlex.quote(inner))
    log = root.with_name(f"{root.name}.log")
    with log.open("wb") as output:
        process = subprocess.Popen(["unshare", "--mount", "/bin/sh", "-c", outer], stdout=output, stderr=output)
    try:

        def is_up() -> bool:
            assert process.poll() is None, f"systemd did not start: {log.read_text()}"
            return (root / "run/systemd/private").is_socket() and bool(psutil.Process(process.pid).children())

        eventually(is_up, lambda: log.read_text())
        machine = Machine(root, psutil.Process(process.pid).children()[0].pid)
        machine.run("systemctl", "start", "multi-user.target")
        yield machine
    finally:
        process.kill()  # and by --kill-child everything in it
        process.wait()
        remove = _REMOVE_CGROUP.format(cgroups=shlex.quote(str(cgroups)), name=name)
        command = ["unshare", "--mount", "/bin/sh", "-c", remove]
        eventually(lambda: subprocess.run(command, check=False, capture_output=True).returncode == 0)
