"""How a message is written, and the `content-type` header that says so."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache

Headers = Sequence[tuple[str, bytes]]

CONTENT_TYPE = "content-type"
"""The header's name; read in any case, written in this one."""

_MAX_CONTENT_TYPE_BYTES = 256  # so that the cache of parsed headers stays small whatever arrives


class CodecError(Exception):
    """These bytes are not the message they should be.

    `reason` is one of the values of `worker.records.Reason`: malformed, not-utf8, no-text, empty, too-large,
    unknown-content-type. `detail` is a sentence for a person; it never quotes the message's text.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class Form(StrEnum):
    """How a message is written. The value is what settings and command lines call it."""

    JSON = "json"
    PROTOBUF = "protobuf"
    TEXT = "text"

    @property
    def content_type(self) -> str:
        """The value of the `content-type` header."""
        return _CONTENT_TYPES[self]

    @property
    def headers(self) -> list[tuple[str, bytes]]:
        """The headers that say so."""
        return [(CONTENT_TYPE, self.content_type.encode())]


_CONTENT_TYPES = {Form.JSON: "application/json", Form.PROTOBUF: "application/x-protobuf", Form.TEXT: "text/plain"}
_FORMS = {
    "application/json": Form.JSON,
    "application/x-protobuf": Form.PROTOBUF,
    "application/protobuf": Form.PROTOBUF,
    "text/plain": Form.TEXT,
}


def form_of(headers: Headers) -> Form | None:
    """The form that the last `content-type` header names, or None without one.

    Raises CodecError (unknown-content-type)."""
    for name, value in reversed(headers):
        if (name == CONTENT_TYPE or name.lower() == CONTENT_TYPE) and value is not None:
            if len(value) > _MAX_CONTENT_TYPE_BYTES:
                raise CodecError("unknown-content-type", f"The content-type header has {len(value):,} bytes.")
            return _parse_content_type(bytes(value))
    return None


@lru_cache(maxsize=256)
def _parse_content_type(value: bytes) -> Form:
    """`type/subtype; parameter=value; …` (RFC 9110, section 8.3.1). A charset other than UTF-8 is refused."""
    media_type, *parameters = value.decode("latin-1").lower().split(";")
    name = media_type.strip()
    # A suffix says how a type of its own is written (RFC 6839): application/cloudevents+json.
    form = Form.JSON if name.endswith("+json") else _FORMS.get(name)
    if form is None:
        known = ", ".join(_FORMS)
        raise CodecError("unknown-content-type", f"The content-type {name!r} is none of {known}.")
    for parameter in parameters:
        parameter_name, _, charset = parameter.partition("=")
        if parameter_name.strip() == "charset" and charset.strip(' "') not in ("utf-8", "utf8", "us-ascii"):
            raise CodecError("unknown-content-type", f"The charset {charset.strip()!r} is not read; send UTF-8.")
    return form
