"""Why a session cannot be encrypted or logged in, in words an operator can act on: what is wrong, and which setting.

In    what the TLS library or the MTA said; MtaSettings
Out   a sentence for MtaRefusesLogin, and so for the status
Not here  the password: the caller has taken it out of the MTA's words (secret_files.py)
"""

from __future__ import annotations

import re
import ssl

from drainer.settings.mta import MtaSettings

_EXPIRED, _NOT_YET_VALID = 10, 9
_OTHER_NAME, _OTHER_ADDRESS = 62, 64
"""X509_V_ERR_* of OpenSSL (x509_vfy.h)."""

_LIBRARY = re.compile(r"^(?:\[[^]]*\] )?|(?: \(_ssl\.c:\d+\))?$")


def not_offered(step: str, settings: MtaSettings) -> str:
    """The MTA announces no STARTTLS, or no AUTH."""
    where = f"{settings.host}:{settings.port}"
    if step == "STARTTLS":
        return (
            f'{where} does not offer STARTTLS, and mta.tls = "starttls" asks for it; right would be a port that does '
            '(often 587), or mta.tls = "implicit" (often 465), or "none" on this machine'
        )
    hint = " without encryption; right may be mta.tls" if settings.tls == "none" else "; right may be another mta.port"
    return f'{where} offers no AUTH{hint}, or mta.username = "" to send without'


def login_refused(step: str, said: str, settings: MtaSettings) -> str:
    """The MTA answered STARTTLS or AUTH with a refusal."""
    checked = (
        "mta.tls" if step == "STARTTLS" else f"mta.username ({settings.username}) and the password in mta.password_file"
    )
    return f"{step} failed at {settings.host}:{settings.port}: {said}; check {checked}"


def tls_failed(exc: ssl.SSLError, settings: MtaSettings) -> str:
    """The handshake failed, or the certificate is not to be trusted."""
    said = _LIBRARY.sub("", str(exc))
    begin = f"TLS failed at {settings.host}:{settings.port}: "
    if not isinstance(exc, ssl.SSLCertVerificationError):
        hint = (
            '; if it speaks TLS only after STARTTLS there, right would be mta.tls = "starttls"'
            if settings.tls == "implicit"
            else ""
        )
        return f"{begin}{said}{hint}"
    if exc.verify_code in (_OTHER_NAME, _OTHER_ADDRESS):
        return (
            f"{begin}its certificate is not for the name {settings.host} ({said}); right would be its name in mta.host"
        )
    if exc.verify_code in (_EXPIRED, _NOT_YET_VALID):
        return f"{begin}its certificate is out of date ({said}); it needs a new one, or this machine's clock is wrong"
    trusted = "the system's" if settings.tls_ca_file is None else str(settings.tls_ca_file)
    return (
        f"{begin}no trusted CA vouches for its certificate ({said}); mta.tls_ca_file names those trusted, now {trusted}"
    )
