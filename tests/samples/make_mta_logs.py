"""Records what a genuine Exim, Postfix and journald write, for tests/samples/mta_logs (its README tells the rest).

    unshare -m .venv/bin/python -m tests.samples.make_mta_logs EXIM DIRECTORY [PASSWD GROUP]

EXIM       the binary, taken out of Debian's packages with `dpkg -x`: it cannot be installed beside Postfix
DIRECTORY  where to write; PASSWD and GROUP: files with a Debian-exim in them, to stand in for those of /etc

Needs root, in a mount namespace of its own: /dev/log is a socket of a private journald there, and so are passwd and group.
"""

from __future__ import annotations

import gzip
import os
import pwd
import shutil
import smtplib
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from drainer.demo.sink import SinkOptions, SinkThread
from tests.postfix import free_port, running_postfix

BOUNCES = "choir-bounces@lists.test"
NAMESPACE = "drainersamples"
SELECTORS = {
    "plain": "",
    "recipients": "log_selector = +received_recipients +millisec +pid\nlog_timezone = yes",
    "all": "log_selector = +all\nlog_timezone = yes",
    "least": "log_selector = -all",
}
FORMS = ("export", "json", "short", "short-precise", "short-iso", "short-iso-precise", "short-full", "short-unix")
_EXIM = """\
primary_hostname = mx.example.test
exim_path = {binary}
keep_environment = LD_LIBRARY_PATH
spool_directory = {home}/spool
log_file_path = {log}
{options}
daemon_smtp_ports = {port}
local_interfaces = 127.0.0.1
tls_advertise_hosts =
host_lookup =
rfc1413_hosts =
acl_smtp_rcpt = acl_rcpt
acl_smtp_data = acl_data
begin acl
acl_rcpt:
  deny domains = nobody.test
       message = no such domain here
  accept
acl_data:
  deny condition = ${{if match{{$h_subject:}}{{REFUSE}}}}
       message = content refused
  accept
begin routers
fail:
  driver = redirect
  domains = fails.test
  allow_fail
  data = :fail: no such user
later:
  driver = redirect
  domains = later.test
  allow_defer
  data = :defer: come back later
alias:
  driver = redirect
  domains = alias.test
  data = real@inside.test
relay:
  driver = manualroute
  domains = relay.test
  route_list = * 127.0.0.1::{sink}
  self = send
  transport = out
local:
  driver = accept
  transport = file
begin transports
out:
  driver = smtp
  allow_localhost
file:
  driver = appendfile
  file = {home}/mail/box
  user = nobody
begin retry
* * F,2h,15m
"""


def main(binary: str, directory: Path, etc: Sequence[str]) -> None:
    for file, stands_for in zip(etc, ("/etc/passwd", "/etc/group"), strict=False):
        subprocess.run(["mount", "--bind", file, stands_for], check=True)
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mta-logs-") as place, SinkThread(SinkOptions()) as sink:
        Path(place).chmod(0o755)
        with private_journal(Path(place) / "dev") as journal:  # which ends by itself after 30 s without work
            with running_postfix(Path(place) / "postfix", "maillog_file =", "syslog_name = postfix-out") as postfix:
                mails(postfix.port)
                while postfix.queued():
                    time.sleep(0.1)
            exim(binary, Path(place) / "syslog", "", sink.port, "syslog")
            for form in FORMS:
                written = subprocess.run([*journal, "-o", form], capture_output=True, check=True).stdout
                (directory / f"journal.{form}.gz").write_bytes(gzip.compress(written, mtime=0))
        with running_postfix(Path(place) / "postfix-file") as postfix:
            mails(postfix.port)
            while postfix.queued():
                time.sleep(0.1)
        shutil.copyfile(postfix.log_file, directory / "postfix.log")
        for name, options in SELECTORS.items():
            home = Path(place) / name
            exim(binary, home, options, sink.port, f"{home}/log/%s")
            shutil.copyfile(home / "log/main", directory / f"exim-{name}.log")


@contextmanager
def private_journal(devices: Path) -> Iterator[list[str]]:
    """A journald of our own that listens on /dev/log. Yields the command that reads it. devices: becomes /dev"""
    machine = Path("/etc/machine-id").read_text().strip()
    daemon = subprocess.Popen(["/lib/systemd/systemd-journald", NAMESPACE], stderr=subprocess.DEVNULL)
    sockets = Path(f"/run/systemd/journal.{NAMESPACE}")
    try:
        while not (sockets / "dev-log").exists():
            time.sleep(0.05)
        devices.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", devices], check=True)
        for name in ("null", "zero", "urandom", "random", "full", "fd"):
            subprocess.run(["cp", "-a", f"/dev/{name}", devices], check=True)
        (devices / "shm").mkdir(mode=0o1777)
        (devices / "log").symlink_to(sockets / "dev-log")
        subprocess.run(["mount", "--move", devices, "/dev"], check=True)
        yield ["journalctl", "--namespace", NAMESPACE]
    finally:
        daemon.terminate()
        daemon.wait()
        for left in (sockets, Path(f"/var/log/journal/{machine}.{NAMESPACE}")):
            shutil.rmtree(left, ignore_errors=True)


def exim(binary: str, home: Path, options: str, sink: int, log: str) -> None:
    owner, port = pwd.getpwnam("Debian-exim"), free_port()
    for directory in (home, home / "spool", home / "log", home / "mail"):
        directory.mkdir()
        os.chown(directory, owner.pw_uid, owner.pw_gid)
    (home / "mail").chmod(0o777)
    config = home / "exim.conf"
    config.write_text(_EXIM.format(binary=binary, home=home, log=log, options=options, port=port, sink=sink))
    daemon = subprocess.Popen([binary, "-C", str(config), "-bdf", "-q15m"])
    try:
        mails(port)
        # By hand, as root: without its set-uid bit it cannot deliver by itself.
        subprocess.run([binary, "-C", str(config), "-qff"], check=True)
        time.sleep(1)
    finally:
        daemon.terminate()
        daemon.wait()


def mails(port: int) -> None:
    """Every kind of mail the tests ask about; in the end two sessions that hang up, before the final dot and after it."""
    deadline_s = time.monotonic() + 60
    while time.monotonic() < deadline_s:
        with suppress(OSError):
            smtplib.SMTP("127.0.0.1", port, "list.example.test").quit()
            break
        time.sleep(0.1)

    def send(reverse_path: str, recipients: list[str], message_id: str, subject: str = "hello") -> None:
        header = f"Message-ID: {message_id}\r\n" if message_id else ""
        content = f"From: ann@example.test\r\nTo: choir@lists.test\r\n{header}Subject: {subject}\r\n\r\nhello\r\n"
        with smtplib.SMTP("127.0.0.1", port, "list.example.test") as client, suppress(smtplib.SMTPResponseException):
            client.sendmail(reverse_path, recipients, content)

    send(BOUNCES, ["a@relay.test", "b@relay.test", "c@local.test"], "<one@example.test>")
    send(BOUNCES, ["d@fails.test", "f@alias.test", "A.Upper@Relay.TEST"], "<one@example.test>")
    send(BOUNCES, ["e@later.test", "g@relay.test"], "<later@example.test>")
    for local in "ab":
        send(f"choir-bounces+{local}=relay.test@lists.test", [f"{local}@relay.test"], "<verp@example.test>")
    send("", ["a@relay.test"], "<null@example.test>")
    send(BOUNCES, ["a@relay.test"], "no-angle-brackets")
    send(BOUNCES, ["a@relay.test"], "<no at sign and spaces>")
    send(BOUNCES, ["a@relay.test"], '<"quoted part"@example.test>')
    send(BOUNCES, ["a@relay.test"], "", "without a Message-ID")
    send(
        BOUNCES, ["x@relay.test", "n@nobody.test"], "<part@example.test>", '<= "x" id=one@example.test for a@relay.test'
    )
    send(BOUNCES, ["x@relay.test"], "<refused@example.test>", "REFUSE")
    send(BOUNCES, [f"long{number:03d}.local.part@relay.test" for number in range(40)], "<forty@example.test>")
    for cut in (b"half a line", b"all of it\r\n.\r\n"):
        with socket.create_connection(("127.0.0.1", port)) as client, client.makefile("rb") as replies:
            replies.readline()
            for said in ("HELO list.example.test", f"MAIL FROM:<{BOUNCES}>", "RCPT TO:<hung@relay.test>", "DATA"):
                client.sendall(said.encode() + b"\r\n")
                replies.readline()
            client.sendall(b"Message-ID: <hung@example.test>\r\nSubject: hung up\r\n\r\n" + cut)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), sys.argv[3:])
