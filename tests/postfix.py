"""A private, genuine Postfix for tests: own configuration, queue, log and port. It delivers into maildirs, or relays.

Needs root and Debian's postfix package. `needed()` says why a test cannot run, and never excuses a run under CI.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

_MAIN = """\
compatibility_level = 3.6
queue_directory = {root}/spool
data_directory = {root}/data
command_directory = /usr/sbin
daemon_directory = /usr/lib/postfix/sbin
mail_owner = postfix
setgid_group = postdrop
maillog_file = {root}/mail.log
maillog_file_prefixes = {root}
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
myhostname = mail.example.test
mydestination =
mynetworks = 127.0.0.0/8
smtpd_relay_restrictions = permit_mynetworks, reject
smtpd_recipient_limit = 2000
smtpd_client_connection_count_limit = 100
alias_maps =
alias_database =
biff = no
"""
_MASTER = """\
{port} inet n - n - - smtpd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
showq unix n - n - - showq
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
smtp unix - - n - - smtp
anvil unix - - n - 1 anvil
scache unix - - n - 1 scache
postlog unix-dgram n - n - 1 postlogd
"""
_INTO_MAILDIRS = """\
default_transport = virtual
local_transport = virtual
virtual_mailbox_base = {root}/mail
virtual_mailbox_maps = static:everybody/
virtual_uid_maps = static:{uid}
virtual_gid_maps = static:{gid}
virtual_minimum_uid = 1
"""
# What is deferred is tried again after seconds, not after minutes. As by default, the longest wait is 13 times the first.
_RELAYS = """\
default_transport = smtp
transport_maps = inline:{transports}
relayhost = [{others[0]}]:{others[1]}
smtp_host_lookup = native
minimal_backoff_time = {retry_s}s
maximal_backoff_time = {longest_s}s
queue_run_delay = {queue_run_s}s
"""
_MESSAGE_ID = re.compile(r"postfix/cleanup\[\d+\]: (\w+): message-id=(<[^>]*>)")
_SENT = re.compile(r"postfix/(?:virtual|smtp)\[\d+\]: (\w+): to=<([^>]*)>.* status=sent")


def needed() -> None:
    """Skip, saying so, where a private Postfix cannot run; fail under CI, where it must."""
    why = ""
    if os.geteuid() != 0:
        why = "a private Postfix needs root"
    elif shutil.which("postfix") is None and not Path("/usr/sbin/postfix").exists():
        why = "no postfix: apt-get install postfix"
    if why and os.environ.get("CI"):
        pytest.fail(f"under CI this must run: {why}")
    if why:
        pytest.skip(why)


Address = tuple[str, int]
"""Host and port, on loopback."""


@dataclass(frozen=True, slots=True)
class Postfix:
    root: Path
    port: int

    @property
    def log_file(self) -> Path:
        return self.root / "mail.log"

    def deliveries(self) -> Counter[tuple[str, str]]:
        """(Message-ID, recipient) -> how often the log says it was delivered."""
        message_ids: dict[str, str] = {}
        delivered: Counter[tuple[str, str]] = Counter()
        for line in self.log_file.read_text().splitlines():
            if found := _MESSAGE_ID.search(line):
                message_ids[found[1]] = found[2]
            elif found := _SENT.search(line):
                delivered[message_ids[found[1]], found[2]] += 1
        return delivered

    def queue_listing(self) -> list[str]:
        """The lines of `postqueue -j`, one for each message Postfix still holds."""
        found = subprocess.run(
            ["/usr/sbin/postqueue", "-c", str(self.root / "etc"), "-j"], capture_output=True, text=True, check=True
        )
        return found.stdout.splitlines()

    def queued(self) -> int:
        """Messages Postfix still holds."""
        return len(self.queue_listing())

    def queued_by_domain(self) -> Counter[str]:
        """Recipients that Postfix still owes, by domain."""
        return Counter(
            recipient["address"].rpartition("@")[2]
            for line in self.queue_listing()
            for recipient in json.loads(line)["recipients"]
        )

    def command(self, word: str) -> None:
        subprocess.run(["/usr/sbin/postfix", "-c", str(self.root / "etc"), word], check=True, capture_output=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_postfix(root: Path, *parameters: str, outbound: str = _INTO_MAILDIRS) -> Iterator[Postfix]:
    """Start a private Postfix under `root` (must be reachable by every user), stop it at the end.

    parameters  further lines of main.cf
    outbound    lines of main.cf that say where mail goes: into maildirs, or relaying_to()
    """
    owner = pwd.getpwnam("postfix")
    port = free_port()
    for name in ("etc", "spool", "data", "mail"):
        (root / name).mkdir(parents=True, mode=0o755)
    os.chown(root / "data", owner.pw_uid, owner.pw_gid)
    nobody = pwd.getpwnam("nobody")
    os.chown(root / "mail", nobody.pw_uid, nobody.pw_gid)
    main = (_MAIN + outbound).format(root=root, uid=nobody.pw_uid, gid=nobody.pw_gid)
    (root / "etc/main.cf").write_text("\n".join([main, *parameters, ""]))
    (root / "etc/master.cf").write_text(_MASTER.format(port=f"127.0.0.1:{port}"))
    postfix = Postfix(root, port)
    postfix.command("start")
    try:
        yield postfix
    finally:
        postfix.command("stop")


def relaying_to(providers: Mapping[str, Address], *, retry_s: int = 5, queue_run_s: int = 1) -> str:
    """Lines of main.cf for a Postfix that relays to sinks on loopback, for `outbound` of running_postfix().

    providers    recipient domain -> where its mail goes; "*": all other domains
    retry_s      wait before the next attempt; queue_run_s: between two looks at what is deferred
    """
    transports = ", ".join(
        f"{{{{ {domain} = smtp:[{host}]:{port} }}}}" for domain, (host, port) in providers.items() if domain != "*"
    )
    return _RELAYS.format(
        transports=f"{{{{ {transports} }}}}",
        others=providers["*"],
        retry_s=retry_s,
        longest_s=13 * retry_s,
        queue_run_s=queue_run_s,
    )
