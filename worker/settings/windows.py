"""The settings of windows, batches, and the form of reviews and results."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from protos.fields import Fields
from worker.names import header_names, review_fields
from worker.settings.kinds import Count


class WindowSettings(BaseSettings):
    """How much at once, and what is read from a review into its result."""

    window_records: Count = Field(512, description="Records in one window: one poll, one transaction.")
    max_windows: Count = Field(4, description="Windows between poll and commit.")
    batch_rows: Count = Field(128, description="Reviews in one Predict call at most.")
    batch_tokens: Count = Field(
        65_536, description="Tokens in one Predict call at most, padding included; a longer review goes alone."
    )
    batch_padding_tokens: Count = Field(
        12_000,
        description="Padding in one Predict call at most, where another call avoids it. As many as another call is worth: "
        "fewer for a model that costs much a token.",
    )
    fill_seconds: float = Field(
        0, ge=0, description="Wait up to this long for a window to fill. 0: send what is there."
    )
    max_review_bytes: Count = Field(262_144, description="Longest record value that is answered.")
    fetch_bytes: Count = Field(1_048_576, description="Bytes fetched from one partition at a time.")
    text_field: str = Field(
        "text",
        description="Where the text stands in JSON: a dotted path (`review.body`) or a JSON pointer (`/review/body`).",
    )
    id_field: str = Field("id", description="Where the id stands in JSON, likewise. Empty: reviews have no id.")
    result_format: Literal["json", "protobuf"] = Field("json", description="How results are written.")
    pass_headers: str = Field(
        "traceparent,tracestate",
        description="Headers of a review that its result has, too: names, comma-separated. Empty: none.",
    )
    pass_attributes: str = Field(
        "",
        description="Attributes of a review that its result has, too: names, comma-separated; `*`: all of them. With a text-field or "
        "id-field of one's own: paths of fields.",
    )
    audit_headers: bool = Field(
        False,
        description="Add headers to each result: SHA-256 of the input, worker and group generation (costs about 5 µs a review).",
    )

    @property
    def review_fields(self) -> Fields | None:
        """Which fields of JSON are a review; None: those of our own form."""
        if (self.text_field, self.id_field) == ("text", "id"):
            return None
        return review_fields(self.text_field, self.id_field, self.pass_attributes)

    @property
    def passed_headers(self) -> tuple[str, ...]:
        """The names of the headers that results have from their reviews."""
        return header_names(self.pass_headers)

    @model_validator(mode="after")
    def _check_windows(self) -> WindowSettings:
        header_names(self.pass_headers)
        _ = self.review_fields
        return self
