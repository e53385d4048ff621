"""TLS or AUTH fails in every session: status shows the MTA's state and the setting to check; after a repair it goes on."""

from __future__ import annotations

import base64
import dataclasses
import signal
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drainer.demo.misbehaviour import Behaviour, Script, SinkStep, answer
from drainer.demo.sink import Sink, SinkOptions, SinkThread
from drainer.report.snapshot import Snapshot
from tests.scenarios.troubled import given, once, outbreak

CERTIFICATES = Path(__file__).parents[1] / "feed"
USER, RIGHT, WRONG = "drainer", "open sesame", "open barley"


def context(name: str, ciphers: str = "") -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(CERTIFICATES / name)
    if ciphers:
        made.maximum_version = ssl.TLSVersion.TLSv1_2
        made.set_ciphers(ciphers)
    return made


@dataclass(frozen=True)
class Fault:
    """Something that keeps sessions from being opened.

    words        words that status must contain, each of them
    stage, what  of the session: what the sink does there
    certificate  it shows; ciphers: all it knows of TLS 1.2, and then no TLS 1.3
    offers       whether it offers STARTTLS and AUTH
    password     in the password file
    """

    words: tuple[str, ...]
    stage: str = ""
    what: Behaviour | None = None
    certificate: str = "loopback.pem"
    ciphers: str = ""
    tls: bool = True
    auth: bool = True
    password: str = RIGHT


FAULTS = {
    "no_starttls": Fault(("does not offer STARTTLS", 'mta.tls = "starttls"'), tls=False),
    "starttls_421": Fault(("STARTTLS: 421 4.3.2 closing",), "starttls", answer("421 4.3.2 closing")),
    "starttls_454": Fault(("STARTTLS: 454 4.7.0 not now",), "starttls", answer("454 4.7.0 not now")),
    "starttls_501": Fault(("501 5.5.4 no", "check mta.tls"), "starttls", answer("501 5.5.4 no")),
    "hang_up_in_handshake": Fault(("STARTTLS: ", "MTA's own log"), "starttls", Behaviour(b"220 go\r\n", "hang_up")),
    "nonsense_for_handshake": Fault(("TLS failed",), "starttls", Behaviour(b"220 go\r\n", "endless")),
    "no_cipher_in_common": Fault(("STARTTLS: Connection reset", "MTA's own log"), ciphers="NULL-SHA256:@SECLEVEL=0"),
    "expired": Fault(("certificate is out of date", "expired"), certificate="expired.pem"),
    "other_name": Fault(("not for the name 127.0.0.1", "mta.host"), certificate="other_name.pem"),
    "no_auth": Fault(("offers no AUTH", "mta.username"), auth=False),
    "auth_421": Fault(("AUTH: 421 4.3.2 busy",), "auth", answer("421 4.3.2 busy")),
    "auth_454": Fault(("AUTH: 454 4.7.0 later",), "auth", answer("454 4.7.0 later")),
    "auth_hang_up": Fault(("AUTH: ", "MTA's own log"), "auth", Behaviour(b"", "hang_up")),
    "wrong_password": Fault(("535 5.7.8", "mta.password_file"), password=WRONG),
    "password_repeated": Fault(
        ("535 5.7.8 what is (hidden)", "mta.password_file"),
        "auth",
        answer(f"535 5.7.8 what is {WRONG} {base64.b64encode(WRONG.encode()).decode()}"),
        password=WRONG,
    ),
    "not_trusted": Fault(("no trusted CA vouches", "mta.tls_ca_file"), certificate="loopback.pem"),
}


def play(sink: Sink, fault: Fault) -> None:
    """From the next session on the sink is as this fault says."""
    sink.options = dataclasses.replace(
        sink.options,
        tls="starttls" if fault.tls else "none",
        accounts=((USER, RIGHT),) if fault.auth else (),
        tls_context=context(fault.certificate, fault.ciphers),
    )

    def script(step: SinkStep) -> Behaviour | None:
        return fault.what if step.stage == fault.stage else None

    scripts: list[Script] = [script]
    sink.scripts[:] = scripts if fault.stage else []


def contains(words: tuple[str, ...]) -> Callable[[Snapshot], bool]:
    return lambda said: said.state == "mta_down" and all(word in said.reason for word in words)


def test_no_entry_is_blamed_for_tls_and_auth_the_reason_names_the_setting_and_repaired_it_goes_on(
    tmp_path: Path,
) -> None:
    """One run of the service meets them one after the other; SIGHUP makes it look at once."""
    capture, password, trusted = tmp_path / "capture.jsonl", tmp_path / "password", tmp_path / "trusted.pem"
    password.touch(0o600)
    mta = {"tls": "starttls", "tls_ca_file": trusted, "username": USER, "password_file": password, "sessions": 3}
    repaired = Fault(())
    all_trusted = "".join(
        (CERTIFICATES / name).read_text() for name in ("loopback.pem", "expired.pem", "other_name.pem")
    )
    with SinkThread(SinkOptions(capture=capture)) as sink:
        site = outbreak(tmp_path / "site", sink.port, 8, members_each=3, mta=mta)
        first = next(iter(FAULTS.values()))
        play(sink, first)
        password.write_text(first.password)
        trusted.write_text(all_trusted)
        with site.run("--until-empty") as service:
            for name, fault in FAULTS.items():
                play(sink, fault)
                password.write_text(fault.password + "\n")
                trusted.write_text(
                    (CERTIFICATES / "other_name.pem").read_text() if name == "not_trusted" else all_trusted
                )
                service.process.send_signal(signal.SIGHUP)
                said = site.status_when(f"{name} is shown with {fault.words}", contains(fault.words))
                assert said.mta.reason == said.reason and said.mta.next_try_s is not None, name
                assert said.done.bounced_recipients == said.done.delivered_recipients == 0, name
                assert said.backlog.deferred_recipients == said.backlog.held_entries == 0, name
            assert "MAIL" not in sink.commands
            play(sink, repaired)
            trusted.write_text(all_trusted)
            service.process.send_signal(signal.SIGHUP)
            assert service.wait() == 0, service.log_text()[-4000:]
    once("repaired", site.owed(), given(capture))
    assert not site.outcomes("deferred") and not site.outcomes("failed")
    secrets = [secret for word in (RIGHT, WRONG) for secret in (word, base64.b64encode(word.encode()).decode())]
    secrets += [base64.b64encode(f"\0{USER}\0{word}".encode()).decode() for word in (RIGHT, WRONG)]
    assert [secret for secret in secrets if secret in service.log_text()] == []


def test_certificate_that_expires_in_the_middle_stops_new_sessions_until_it_is_replaced(tmp_path: Path) -> None:
    capture = tmp_path / "capture.jsonl"
    trusted = tmp_path / "trusted.pem"
    trusted.write_text("".join((CERTIFICATES / name).read_text() for name in ("loopback.pem", "expired.pem")))
    mta = {"tls": "implicit", "tls_ca_file": trusted, "sessions": 2, "transactions_per_session": 3}
    server = context("loopback.pem")
    with SinkThread(SinkOptions(capture=capture, tls="implicit", tls_context=server)) as sink:
        site = outbreak(tmp_path / "site", sink.port, 12, members_each=3, mta=mta, feed={"messages": "20/s"})
        with site.run("--until-empty") as service:
            site.until("some are delivered", lambda: sink.taken_recipients > 3)
            server.load_cert_chain(CERTIFICATES / "expired.pem")
            said = site.status_when("the MTA is down", lambda said: said.state == "mta_down")
            assert "certificate is out of date" in said.reason and said.backlog.entries > 0
            server.load_cert_chain(CERTIFICATES / "loopback.pem")
            service.process.send_signal(signal.SIGHUP)
            assert service.wait() == 0, service.log_text()[-4000:]
    once("replaced", site.owed(), given(capture))
    assert not site.outcomes("deferred") and not site.outcomes("failed")
