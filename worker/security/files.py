"""Files that hold certificates, keys and secrets. Whatever is wrong with one is said by a sentence that names its
setting."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr


class Unusable(ValueError):
    """A file that cannot be used. A ValueError, for pydantic to report."""


@dataclass(frozen=True)
class Named:
    """A setting's name and its value: most often a path, empty where nothing is set."""

    setting: str
    value: str

    def read(self) -> bytes:
        """The file's content. Raises Unusable."""
        try:
            return Path(self.value).read_bytes()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "this is no path"
            raise Unusable(f"{self.setting}: {self.value} cannot be read: {reason}") from None


def secret(value: SecretStr, file: Named) -> str:
    """The secret itself: as it was given, else the file's content without the newline at its end. Empty where neither is
    set. Raises Unusable for both at once, and for a file that is empty or cannot be read."""
    given = value.get_secret_value()
    if not file.value:
        return given
    if given:
        raise Unusable(f"{file.setting} and {file.setting.removesuffix('-file')} are both set: keep one of them")
    try:
        content = file.read().decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise Unusable(f"{file.setting}: {file.value} holds no UTF-8 text") from None
    if not content:
        raise Unusable(f"{file.setting}: {file.value} is empty")
    return content


def check_pem(*, authorities: Named, certificate: Named, key: Named, password: Named) -> None:
    """Whether these PEM files can be used together by a TLS client. `password` opens the key. Raises Unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if authorities.value:
        _require_pem(authorities, "CERTIFICATE")
        try:
            context.load_verify_locations(authorities.value)
        except ssl.SSLError:
            raise Unusable(f"{authorities.setting}: {authorities.value} holds a damaged certificate") from None
    if key.value and not certificate.value:
        raise Unusable(f"{key.setting} needs {certificate.setting}: a key is of no use without its certificate")
    if certificate.value:
        check_pair(context, certificate=certificate, key=key, password=password)


def check_pair(context: ssl.SSLContext, *, certificate: Named, key: Named, password: Named) -> None:
    """Loads one's own certificate and its key, which may stand in one file. Raises Unusable."""
    content = _require_pem(certificate, "CERTIFICATE")
    if key.value:
        _require_pem(key, "PRIVATE KEY")
    elif b"PRIVATE KEY-----" not in content:
        raise Unusable(f"{certificate.setting} needs {key.setting}: {certificate.value} holds no private key")
    where = key if key.value else certificate
    asked = False

    def answer() -> str:
        nonlocal asked
        asked = True
        return password.value

    try:
        context.load_cert_chain(certificate.value, key.value or None, password=answer)
    except ssl.SSLError as error:
        raise Unusable(_explain(error, where, certificate, password if asked else None)) from None


def server_context(*, certificate: Named, key: Named) -> ssl.SSLContext:
    """TLS for a port of our own. Raises Unusable."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    check_pair(context, certificate=certificate, key=key, password=Named("", ""))
    return context


def _require_pem(file: Named, what: str) -> bytes:
    content = file.read()
    if b"-----BEGIN " not in content or f"{what}-----".encode() not in content:
        raise Unusable(f"{file.setting}: {file.value} holds no {what.lower()} in PEM form")
    return content


def _explain(error: ssl.SSLError, key: Named, certificate: Named, password: Named | None) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return f"{key.setting}: the key in {key.value} does not belong to the certificate in {certificate.value}"
    if password is not None and not password.value:
        return f"{key.setting}: the key in {key.value} is encrypted; {_remedy(password)}"
    if password is not None:
        return f"{password.setting} does not open the key in {key.value}"
    return f"{certificate.setting}: {certificate.value} and its key cannot be loaded: {error.reason or 'damaged'}"


def _remedy(password: Named) -> str:
    return f"set {password.setting}" if password.setting else "write it without a password, with `openssl pkey`"
