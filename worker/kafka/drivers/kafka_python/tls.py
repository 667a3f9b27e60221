"""What failed handshakes mean, as a sentence that names the setting to look at."""

from __future__ import annotations

import ssl

from worker.kafka.drivers.tls_advice import NO_TLS, OUR_CERTIFICATE, UNKNOWN_AUTHORITY

# X509_V_ERR_… of OpenSSL's x509_vfy.h
_EXPIRED = 10
_OTHER_NAME = (62, 64)

_ADVICE = (
    # Alerts (RFC 8446, section 6.2) with which a broker answers our certificate, or the lack of one.
    (("ALERT", "CERTIFICATE"), OUR_CERTIFICATE),
    (("ALERT_UNKNOWN_CA",), UNKNOWN_AUTHORITY),
    (("WRONG_VERSION_NUMBER",), NO_TLS),
    (("RECORD_LAYER_FAILURE",), NO_TLS),
)


def refusal(error: BaseException | None) -> str | None:
    """Why waiting mends nothing, and what does; None for a connection that was merely cut."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{error.verify_message}. {_remedy(error.verify_code)}"
    if not isinstance(error, ssl.SSLError) or isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return None
    reason = error.reason or ""
    for words, advice in _ADVICE:
        if all(word in reason for word in words):
            return f"{advice} ({reason})"
    return None


def _remedy(verify_code: int) -> str:
    if verify_code == _EXPIRED:
        return "Renew the brokers' certificate, and check this machine's clock"
    if verify_code in _OTHER_NAME:
        return "Reach the brokers by a name that their certificate holds: see bootstrap and their advertised.listeners"
    return "Set kafka-ssl-cafile to the authorities that sign the brokers' certificates"
