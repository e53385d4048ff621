"""Why this process may not read or write a path, and what would allow it; for a systemd unit, the lines to add.

In    a path that was refused, and for what
Out   advice for the operator; None where nothing here refuses it
Shell looks at modes, mounts and the process itself; changes nothing

Under systemd the unit itself is behind most refusals. ProtectSystem=strict makes everything read-only that
ReadWritePaths= does not name, User= may not be the user Mailman runs as, ProtectHome= and PrivateTmp= hide directories. The
kernel only says "Read-only file system", "Permission denied" or "No such file", which does not help an operator.
"""

from __future__ import annotations

import grp
import os
import pwd
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_HOMES = ("/home", "/root", "/run/user")
"""What ProtectHome= hides."""
_TMP = ("/tmp", "/var/tmp")
_EXIM_GROUPS = ("Debian-exim", "exim")
"""Of Debian, and of others."""


@dataclass(frozen=True, slots=True)
class Advice:
    """reason      what refuses it
    lines       for the unit's [Service]; () where no line would help
    otherwise   what would be right instead of the lines, or besides them; "" for nothing
    """

    reason: str
    lines: tuple[str, ...] = ()
    otherwise: str = ""

    def text(self) -> str:
        """Several lines, as an error at the start ends."""
        unit = unit_of_process()
        if not self.lines or not unit:
            return "; ".join(filter(None, (self.reason, self.otherwise)))
        before = f"; {self.otherwise}" if self.otherwise else ""
        lines = "\n".join(f"  {line}" for line in ("[Service]", *self.lines))
        return f"{self.reason}{before}; right would be `systemctl edit {unit}` with\n{lines}"

    def in_one_line(self) -> str:
        """The same for a line of the log."""
        unit = unit_of_process()
        if not self.lines or not unit:
            return self.text()
        right = f"right would be `systemctl edit {unit}` with [Service] and {' and '.join(self.lines)}"
        return "; ".join(filter(None, (self.reason, self.otherwise, right)))


def and_advice(path: Path, *, writing: bool = False, of_mailman: bool = False) -> str:
    """What to put behind an error about a path: "" or "; " and the advice."""
    advice = advice_for(path, writing=writing, of_mailman=of_mailman)
    return f"; {advice.text()}" if advice else ""


def unit_of_process() -> str:
    """The systemd service this process is, without .service; "" if it is none, such as a command typed by a person."""
    if os.environ.get("SYSTEMD_EXEC_PID") != str(os.getpid()):
        return ""
    try:
        groups = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return ""
    names = (line.rpartition("/")[2] for line in groups)
    return next((name.removesuffix(".service") for name in names if name.endswith(".service")), "")


def advice_for(path: Path, *, writing: bool = False, of_mailman: bool = False) -> Advice | None:
    """What refuses this process a path.

    path        a file or directory, there or not
    writing     it is to be written; a directory: entries are to be made in it
    of_mailman  it is Mailman's, so that who owns it is who drainer should run as; else it is drainer's own
    """
    try:
        return _advice(path, writing, of_mailman)
    except OSError:  # no such name can be, or it went away meanwhile: whoever opens it says so
        return None


def _advice(path: Path, writing: bool, of_mailman: bool) -> Advice | None:
    real = Path(os.path.realpath(path))
    for directory in reversed(real.parents):
        if not directory.exists():
            break
        if not os.access(directory, os.X_OK, effective_ids=True):
            return _hidden(directory, writing) or _locked(directory, os.X_OK, writing, of_mailman)
    if not real.exists():
        if _is_below(real, _TMP) and unit_of_process():
            return Advice(
                "the unit has a /tmp and a /var/tmp of its own (PrivateTmp=)", (), "right would be another place"
            )
        return _missing(real) if writing and not of_mailman else None
    wanted = os.R_OK | (os.W_OK if writing else 0) | (os.X_OK if real.is_dir() else 0)
    if os.access(real, wanted, effective_ids=True):
        return None
    locked = _locked(real, wanted, writing, of_mailman)
    if not (writing and _is_read_only(real)):
        return locked or Advice("an access control list or a security module refuses it")
    if _filesystem_is_read_only(real):
        return Advice(
            "its filesystem is mounted read-only", (), "right would be to mount it for writing; dmesg may say why"
        )
    return Advice(
        " and ".join(filter(None, ("it is read-only here", locked.reason if locked else ""))),
        (f"ReadWritePaths={real}", *(locked.lines if locked else ())),
        locked.otherwise if locked else "",
    )


def set_id_advice(program: Path) -> Advice | None:
    """What keeps a program from the user or group its set-ID bits would give it: in a unit they do not count."""
    status = program.stat()
    if os.geteuid() == 0 or "NoNewPrivs:\t1" not in Path("/proc/self/status").read_text():
        return None
    if status.st_mode & stat.S_ISUID and status.st_uid != os.geteuid():
        # Members of Exim's group are its admin users, and they may read its spool: the bit is not needed for a listing.
        groups = [found for found in grp.getgrall() if found.gr_name in _EXIM_GROUPS]
        if any(found.gr_gid in {os.getegid(), *os.getgroups()} for found in groups):
            return None
        group = groups[0].gr_name if groups else ""
        return Advice(
            f"its set-user-ID bit does not count in the unit (NoNewPrivileges=): it needs the group {group or 'of Exim'}",
            (f"SupplementaryGroups={group}",) if group else (),
        )
    if not status.st_mode & stat.S_ISGID or status.st_gid in {os.getegid(), *os.getgroups()}:
        return None
    group = _group(status.st_gid)
    return Advice(f"it needs the group {group}, which the unit does not let it have", (f"SupplementaryGroups={group}",))


def membership_advice(gid: int) -> Advice:
    """Of a group that is to reach a socket in the unit's runtime directory."""
    group = _group(gid)
    return Advice(
        f"drainer, run by {_user(os.geteuid())}, is not in it",
        (f"SupplementaryGroups={group}", "RuntimeDirectoryMode=0755"),
        "" if unit_of_process() else "right would be a group that the user drainer runs as is a member of",
    )


def _hidden(directory: Path, writing: bool) -> Advice | None:
    if str(directory) in _HOMES and not stat.S_IMODE(directory.stat().st_mode):
        return Advice(f"the unit does not see {directory}", (f"ProtectHome={'false' if writing else 'read-only'}",))
    return None


def _missing(path: Path) -> Advice | None:
    """Of a directory that would have to be made."""
    there = next(parent for parent in path.parents if parent.exists())
    if os.access(there, os.W_OK | os.X_OK, effective_ids=True):
        return None
    user, group = _user(os.geteuid()), _group(os.getegid())
    lines = (f"ReadWritePaths={path}",) if _is_read_only(there) else ()
    return Advice(
        f"{path} does not exist, and user {user} may not make it",
        lines,
        f"make it first: `install -d -m 0750 -o {user} -g {group} {path}`",
    )


def _locked(path: Path, wanted: int, writing: bool, of_mailman: bool) -> Advice | None:
    """What the owner and the mode of a path refuse; None: nothing."""
    status = path.stat()
    if _permits(status, wanted):
        return None
    us, owner, group = _user(os.geteuid()), _user(status.st_uid), _group(status.st_gid)
    reason = f"{path} belongs to {owner}:{group} (mode {stat.S_IMODE(status.st_mode):04o}), and drainer runs as {us}"
    by_hand = not unit_of_process()
    if writing and of_mailman and status.st_uid:
        right = f"right would be to run drainer as the user Mailman runs as, {owner}" if by_hand else ""
        return Advice(reason, (f"User={owner}", f"Group={group}"), right)
    if wanted & ~(status.st_mode >> 3) & 7 == 0 and status.st_gid:
        right = f"right would be that {us} is in the group {group}" if by_hand else ""
        return Advice(reason, (f"SupplementaryGroups={group}",), right)
    return Advice(reason, (), f"right would be an owner or a mode that lets {us} {'write' if writing else 'read'} it")


def _permits(status: os.stat_result, wanted: int) -> bool:
    if os.geteuid() == 0:
        return True
    if status.st_uid == os.geteuid():
        granted = status.st_mode >> 6
    elif status.st_gid in {os.getegid(), *os.getgroups()}:
        granted = status.st_mode >> 3
    else:
        granted = status.st_mode
    return wanted & ~granted & 7 == 0


def _is_read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _filesystem_is_read_only(path: Path) -> bool:
    """The filesystem itself, and not only this mount of it, as a sandbox makes one."""
    found = ""
    for mounted_at, options in _mounts():
        if path == mounted_at or mounted_at in path.parents:
            found = options  # later mounts lie over earlier ones, and deeper ones come later
    return "ro" in found.split(",")


def _mounts() -> Iterator[tuple[Path, str]]:
    """Mount points, and the options of the filesystem mounted there. Source: proc(5), /proc/pid/mountinfo."""
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            fields, _, filesystem = line.partition(" - ")
            yield Path(fields.split()[4].replace("\\040", " ")), filesystem.split()[-1]


def _is_below(path: Path, directories: tuple[str, ...]) -> bool:
    return any(Path(directory) in path.parents for directory in directories)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _group(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except (KeyError, OverflowError):
        return str(gid)
