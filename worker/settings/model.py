"""The settings of the model and of the server that has it."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings

from worker.names import names
from worker.security.serving import check_serving
from worker.settings.kinds import Count, Seconds


class ModelSettings(BaseSettings):
    """Which model, what it is like, how to talk to its server, and when a call is made again."""

    serving: str = Field("localhost:8500", description="TensorFlow Serving's gRPC address, host:port.")
    model: str = Field("sentiment_classifier", description="Model name.")
    signature: str = Field("serving_default", description="Signature to call.")
    version: str = Field("newest", description="Model version: newest, a number, or a version label such as stable.")
    shadow: str = Field(
        "",
        description="A second version (number or label) that scores too; its labels are not published, only compared.",
    )
    model_poll_seconds: Seconds = Field(2, description="How often to ask which versions are served.")
    vocabulary: str = Field(
        "",
        description="Vocabulary file for a model without a `vocabulary` signature: tfds .subwords or BERT vocab.txt.",
    )
    input_name: str = Field("", description="Input to feed. Empty: the signature's only one.")
    output_name: str = Field("", description="Output to read. Empty: the signature's only one.")
    labels: str = Field(
        "", description="Labels, comma-separated, in the order of the outputs. Empty: the model card's."
    )
    threshold: float | None = Field(
        None, ge=0, le=1, description="Score from which one output means the second label. Empty: the card's, or 0.6."
    )
    max_tokens: int | None = Field(
        None, ge=1, description="Tokens after which a review is cut. Empty: the card's, or 4096."
    )
    padding_id: int = Field(0, description="Token id that pads a row, for a model without a card.")
    logits: bool = Field(False, description="The outputs are logits: apply sigmoid (one output) or softmax (several).")
    all_scores: bool = Field(False, description="Publish every class's score.")
    serving_tls: bool = Field(
        False, description="Talk TLS to the model server, and trust the authorities that the machine trusts."
    )
    serving_ca_file: str = Field(
        "", description="PEM file of the authorities that sign the model server's certificate; implies `serving-tls`."
    )
    serving_cert_file: str = Field("", description="PEM file of the worker's certificate for the model server.")
    serving_key_file: str = Field("", description="PEM file of its key. Empty: the certificate's file holds it, too.")
    serving_server_name: str = Field(
        "", description="Name that the model server's certificate must hold. Empty: that of `serving`."
    )
    serving_token_file: str = Field(
        "", description="File of a bearer token that goes with each call, over TLS only; read anew for each."
    )
    request_timeout_seconds: Seconds = Field(10, description="One Predict call.")
    max_requests: Count = Field(
        16, description="Predict calls in flight at most; fewer while the server is overloaded."
    )
    retry_delay_seconds: Seconds = Field(
        0.1, description="First wait before a failed call is repeated; doubles each time."
    )
    max_retry_delay_seconds: Seconds = Field(5, description="Longest wait before a failed call is repeated.")
    max_strikes: Count = Field(
        3, description="Failures of one batch, by a server that answers others, before it is bisected."
    )

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels named in the settings, in the order of the outputs; empty for the card's."""
        return names(self.labels)

    @model_validator(mode="after")
    def _check_model(self) -> ModelSettings:
        if self.retry_delay_seconds > self.max_retry_delay_seconds:
            raise ValueError("retry-delay-seconds must not be longer than max-retry-delay-seconds")
        check_serving(
            tls=self.serving_tls,
            ca_file=self.serving_ca_file,
            cert_file=self.serving_cert_file,
            key_file=self.serving_key_file,
            server_name=self.serving_server_name,
            token_file=self.serving_token_file,
        )
        if self.vocabulary and not Path(self.vocabulary).is_file():
            raise ValueError(f"the vocabulary file {self.vocabulary} does not exist")
        if len(self.label_names) == 1:
            raise ValueError("labels needs at least two names")
        return self
