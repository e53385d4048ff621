"""Records queue and log of a genuine Postfix and Exim that relay to providers who refuse, for tests/samples/mta_behind.

    .venv/bin/python -m tests.samples.make_mta_behind DIRECTORY

Needs what tests/exim.py and tests/postfix.py need. Each of PROVIDERS is a sink at a host of its own, because both
MTAs remember trouble by host. Nothing listens for down.example.
"""

from __future__ import annotations

import smtplib
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import SinkOptions, SinkThread
from tests.exim import running_exim
from tests.postfix import Address, free_port, relaying_to, running_postfix

PROVIDERS = {
    "gmail.example": r"dot 421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\n421-4.7.28 from"
    r" your IP address. To protect our users from spam, mail sent from your\n421-4.7.28 IP address has been temporarily"
    r" rate limited. For more information, go to\n421 4.7.28  https://support.google.com/mail/?p=UnsolicitedRateLimitError"
    " 4fb4d7f45d1cf-5cfc6e1c1a3si531234a12.99 - gsmtp rate=2",
    "googlemail.example": r"rcpt 450-4.2.1 The user you are trying to contact is receiving mail at a rate that\n450-4.2.1"
    r" prevents additional messages from being delivered. Please resend your\n450-4.2.1 message at a later time. If the"
    r" user is able to receive mail at that\n450-4.2.1 time, your message will be delivered. For more information, go"
    r" to\n450 4.2.1  https://support.google.com/mail/?p=ReceivingRate 4fb4d7f45d1cf-5cfc6e1c1a3si531234a12.99 - gsmtp"
    " rate=2",
    "yahoo.example": "connect 421 4.7.0 [TSS04] Messages from 192.0.2.25 temporarily deferred due to unexpected volume or"
    " user complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes rate=2",
    "outlook.example": "mail 451 4.7.652 The mail server [192.0.2.25] has exceeded the maximum number of connections."
    " (S3115) [AM7EUR06FT028.eop-eur06.prod.protection.outlook.com] rate=2",
    "grey.example": "rcpt 450 4.2.0 Greylisted, see https://grey.example/help first=4",
    "full.example": "rcpt 452 4.2.2 The email account that you tried to reach is over quota",
    "third.example": "quit 221 2.0.0 Bye",
}
MAILS = 8
LONG_ENOUGH_S = 12


def send(port: int) -> None:
    with smtplib.SMTP("127.0.0.1", port, "list.example.test") as client:
        for number in range(MAILS):
            recipients = [f"member{number}@{domain}" for domain in (*PROVIDERS, "down.example")]
            content = f"From: ann@example.test\r\nMessage-ID: <{number}@example.test>\r\nSubject: hello\r\n\r\nhello\r\n"
            client.sendmail("choir-bounces@lists.example.test", recipients, content)


def providers(stack: ExitStack) -> Mapping[str, Address]:
    """Recipient domain -> where its mail goes; new sinks, which have seen nothing yet."""
    where: dict[str, Address] = {"down.example": ("127.0.0.99", free_port())}
    for number, (domain, rule) in enumerate(PROVIDERS.items(), 2):
        sink = stack.enter_context(SinkThread(SinkOptions(host=f"127.0.0.{number}"), Rule.parse(rule)))
        where[domain] = (sink.options.host, sink.port)
    return {**where, "*": where["third.example"]}


def main(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="mta-behind-") as place, ExitStack() as stack:
        Path(place).chmod(0o755)
        with running_postfix(Path(place) / "postfix", outbound=relaying_to(providers(stack))) as postfix:
            send(postfix.port)
            time.sleep(LONG_ENOUGH_S)
            (directory / "postqueue.json").write_text("\n".join([*postfix.queue_listing(), ""]))
            (directory / "postfix.log").write_text(postfix.log_file.read_text())
        with running_exim(Path(place) / "exim", providers(stack)) as exim:
            send(exim.port)
            time.sleep(LONG_ENOUGH_S)
            (directory / "exim-bp.txt").write_text(exim.run("-bp"))
            (directory / "exim.log").write_text(exim.log_file.read_text())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
