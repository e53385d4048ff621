"""Opening a session: greeting, STARTTLS, AUTH, against a sink that can do all of them badly."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from drainer.compose.wire import Envelope
from drainer.demo.misbehaviour import Rule
from drainer.demo.sink import Sink, SinkOptions
from drainer.errors import MtaRefusesLogin, MtaUnreachable
from drainer.feed.connect import MtaBusy
from drainer.feed.session import Session
from drainer.settings.mta import MtaSettings
from tests.feed.conftest import mta_settings, sent


async def test_port_without_a_listener_is_unreachable(mta: MtaSettings, sink: Sink) -> None:
    await sink.close()
    with pytest.raises(MtaUnreachable, match=str(mta.port)):
        await Session.open(mta)


@pytest.mark.parametrize("rule", ["connect 421 4.7.0 too many", "connect 450 4.3.2 later", "ehlo 421 4.3.2 closing"])
async def test_mta_that_has_enough_is_busy(sink: Sink, mta: MtaSettings, rule: str) -> None:
    sink.scripts.append(Rule.parse(rule))
    with pytest.raises(MtaBusy, match="4"):
        await Session.open(mta)


@pytest.mark.parametrize("rule", ["connect 554 5.7.1 go away", "connect hang-up", "connect garbage", "ehlo hang-up"])
async def test_mta_that_wants_none_of_us_is_unreachable_but_not_busy(sink: Sink, mta: MtaSettings, rule: str) -> None:
    sink.scripts.append(Rule.parse(rule))
    with pytest.raises(MtaUnreachable) as caught:
        await Session.open(mta)
    assert not isinstance(caught.value, MtaBusy)


async def test_silent_greeting_ends_with_the_connect_timeout(sink: Sink) -> None:
    sink.scripts.append(Rule.parse("connect silence"))
    with pytest.raises(MtaUnreachable):
        await Session.open(mta_settings(sink.port, connect_timeout=0.05))


async def test_server_without_ehlo_is_greeted_with_helo_and_offers_nothing(sink: Sink, mta: MtaSettings) -> None:
    sink.scripts.append(Rule.parse("ehlo 502 5.5.1 what first=1"))
    session = await Session.open(mta)
    assert not session.offers("size")
    await sent(session, Envelope("a@example.org", ("b@example.org",), ("BODY=8BITMIME",)))
    await session.quit()
    assert sink.taken[0].parameters == ()


CERTIFICATE = Path(__file__).with_name("loopback.pem")


def server_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    return context


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_encrypted_session_with_login_carries_mail(tmp_path: Path, tls: str) -> None:
    password = tmp_path / "password"
    password.write_text("sesame\n")
    password.chmod(0o600)
    options = SinkOptions(tls=tls, tls_context=server_context(), accounts=(("drainer", "sesame"),))  # type: ignore[arg-type]
    async with Sink(options) as sink:
        changes = {"tls": tls, "tls_ca_file": CERTIFICATE, "username": "drainer", "password_file": password}
        session = await Session.open(mta_settings(sink.port, **changes))
        await sent(session, Envelope("a@example.org", ("b@example.org",)))
        await session.quit()
        assert len(sink.taken) == 1


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_untrusted_certificate_is_refused(tls: str) -> None:
    async with Sink(SinkOptions(tls=tls, tls_context=server_context())) as sink:  # type: ignore[arg-type]
        with pytest.raises(MtaRefusesLogin):
            await Session.open(mta_settings(sink.port, tls=tls))
        assert "MAIL" not in sink.commands


async def test_starttls_wanted_but_not_offered_is_refused(sink: Sink) -> None:
    with pytest.raises(MtaRefusesLogin):
        await Session.open(mta_settings(sink.port, tls="starttls"))


async def test_wrong_password_is_refused_and_missing_file_named(tmp_path: Path) -> None:
    password = tmp_path / "password"
    async with Sink(SinkOptions(accounts=(("drainer", "sesame"),))) as sink:
        mta = mta_settings(sink.port, username="drainer", password_file=password)
        with pytest.raises(MtaRefusesLogin, match="password_file"):
            await Session.open(mta)
        password.write_text("wrong")
        password.chmod(0o600)
        with pytest.raises(MtaRefusesLogin, match="535"):
            await Session.open(mta)
