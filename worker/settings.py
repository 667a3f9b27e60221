"""Every setting of the worker, read once at start: flag > environment > folder of secrets > file > default.

Environment names are `INFERRY_` and the field in capitals; flags are the field with dashes; the file is TOML with the
field names as keys, named by `--config` or `INFERRY_CONFIG`. Anything contradictory is refused before anything starts.
"""

from __future__ import annotations

import itertools
import os
import ssl
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    CliApp,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from protos.fields import Fields
from worker.cores import process_count
from worker.errors import ConfigError
from worker.names import header_names, names, review_fields
from worker.run_bounds import parse_start, parse_until
from worker.security.files import Named, secret, server_context
from worker.security.kafka import SECRETS_DIR, KafkaSettings, SecretsFolderMissing
from worker.security.serving import check_serving

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class Settings(KafkaSettings):
    """The worker's settings; those of the connection to Kafka come first. Frozen; `load` makes it."""

    model_config = SettingsConfigDict(
        env_prefix="INFERRY_",
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
    )

    # Kafka
    kafka_client: Literal["kafka-python", "librdkafka"] = Field(
        "kafka-python",
        description="Library that talks to Kafka. librdkafka costs a fraction of the CPU and needs `pip install 'inferry[librdkafka]'`.",
    )
    kafka_group_protocol: Literal["classic", "cooperative", "consumer"] = Field(
        "classic",
        description="How the group shares out its partitions: classic (a rebalance takes all of them away first), cooperative (it moves single ones; KIP-429) or consumer (so do the brokers themselves; KIP-848, Kafka 4.0 or newer). The last two need librdkafka in every worker of the group.",
    )
    group: str = Field("inferry-worker", description="Consumer group.")
    input_topic: str = Field("reviews", description="Topic the reviews are read from.")
    output_topic: str = Field("review-labels", description="Topic the labelled results go to.")
    dead_letter_topic: str = Field("reviews-dead-letter", description="Topic for records that can never be answered.")
    create_topics: bool = Field(False, description="Create missing topics at start.")
    create_partitions: Count = Field(3, description="Partitions of a topic created at start.")
    create_replication: int = Field(
        -1, ge=-1, description="Replicas of a topic created at start; -1: broker's default."
    )
    delivery: Literal["exactly-once", "at-least-once"] = Field(
        "exactly-once",
        description="exactly-once: results and offsets in one transaction. at-least-once: offsets after acknowledgements.",
    )
    transactional_id: str = Field(
        "",
        description="Unique among live workers, the same after a restart. Empty: `<group>.0`, right for a single worker.",
    )
    instance_id: str = Field("", description="Static group membership (group.instance.id). Empty: dynamic.")
    client_id: str = Field("inferry-worker", description="Name in the brokers' logs, metrics and quotas (client.id).")
    start: str = Field(
        "committed",
        description="Where to start (`--from` says the same): committed (a partition without a committed offset starts at its "
        "earliest record), earliest, latest, an ISO timestamp, or offsets as `0:120,1:80`.",
    )
    until: str = Field(
        "",
        description="Stop after: end (what was there at start), an ISO timestamp, or before offsets as `0:120,1:80` (a partition "
        "not named is not read). Empty: run for ever.",
    )
    kafka_request_timeout_seconds: Seconds = Field(10, description="One request to a broker.")
    kafka_delivery_timeout_seconds: Seconds = Field(
        12, description="One result from send to acknowledgement, retries included."
    )
    transaction_timeout_seconds: Seconds = Field(
        15,
        description="After this the broker aborts an open transaction; it bounds how long readers wait for a dead worker.",
    )
    session_timeout_seconds: Seconds = Field(
        20, description="After this without a heartbeat the group gives our partitions away."
    )
    max_poll_interval_seconds: Seconds = Field(
        300, description="After this without a poll the group gives our partitions away."
    )

    # The model
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

    # Windows and batches
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

    # Running
    processes: str = Field(
        "1", coerce_numbers_to_str=True, description="Worker processes on this machine; auto: one for each core."
    )
    startup_seconds: Seconds = Field(
        60, description="At start, how long to wait for Kafka and the model server to be there."
    )
    drain_seconds: Seconds = Field(20, description="On SIGTERM, time to finish what is in flight.")
    stall_seconds: Seconds = Field(
        120, description="A partition with lag and no progress for this long turns /livez red."
    )
    dead_letter_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of dead letters among the last 1,000 records that stops the worker; 1: never.",
    )
    dead_letter_run: int = Field(500, ge=0, description="Dead letters in a row that stop the worker; 0: never.")
    metrics_host: str = Field("0.0.0.0", description="Address of the status page, /metrics, /livez and /readyz.")  # noqa: S104  scraped from elsewhere
    metrics_port: int = Field(
        9464, ge=0, le=65535, description="Port of the status page, /metrics, /livez and /readyz; 0: any free one."
    )
    metrics_cert_file: str = Field("", description="PEM file of that port's certificate. Empty: no TLS.")
    metrics_key_file: str = Field("", description="PEM file of its key. Empty: the certificate's file holds it, too.")
    metrics_token_file: str = Field(
        "",
        description="File of the bearer token that all but the probes want at that port; read anew for each request.",
    )
    traces: Literal["auto", "on", "off"] = Field(
        "auto",
        description="OpenTelemetry traces (extra `[otel]`). auto: where OTEL_TRACES_EXPORTER or OTEL_EXPORTER_OTLP_ENDPOINT is set.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line written."
    )
    log_format: Literal["auto", "console", "json"] = Field(
        "auto", description="auto: console at a terminal, else JSON."
    )

    @property
    def label_names(self) -> tuple[str, ...]:
        """The labels named in the settings, in the order of the outputs; empty for the card's."""
        return names(self.labels)

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

    @property
    def producer_id(self) -> str:
        """The transactional id in force."""
        return self.transactional_id or f"{self.group}.0"

    def metrics_url(self, port: int) -> str:
        """Where the metrics are, for people."""
        scheme = "https" if self.metrics_cert_file else "http"
        host = f"[{self.metrics_host}]" if ":" in self.metrics_host else self.metrics_host
        return f"{scheme}://{host}:{port}/metrics"

    def metrics_tls(self) -> ssl.SSLContext | None:
        """TLS for the metrics port, or None for none. Raises ValueError."""
        if not self.metrics_cert_file:
            return None
        certificate = Named("metrics-cert-file", self.metrics_cert_file)
        return server_context(certificate=certificate, key=Named("metrics-key-file", self.metrics_key_file))

    def metrics_token(self) -> str:
        """What the metrics port wants to be shown, read from its file now; empty for nothing. Raises ValueError."""
        return secret(SecretStr(""), Named("metrics-token-file", self.metrics_token_file))

    @model_validator(mode="after")
    def _cross_check(self) -> Settings:
        topics = [self.input_topic, self.output_topic, self.dead_letter_topic]
        if len(set(topics)) < len(topics):
            raise ValueError("input-topic, output-topic and dead-letter-topic must be three different topics")
        nested = [
            ("kafka-request-timeout-seconds", self.kafka_request_timeout_seconds),
            ("kafka-delivery-timeout-seconds", self.kafka_delivery_timeout_seconds),
            ("transaction-timeout-seconds", self.transaction_timeout_seconds),
            ("session-timeout-seconds", self.session_timeout_seconds),
            ("max-poll-interval-seconds", self.max_poll_interval_seconds),
        ]
        for (shorter, low), (longer, high) in itertools.pairwise(nested):
            if not low < high:
                raise ValueError(
                    f"{shorter} ({low:g}) must be shorter than {longer} ({high:g}): each limit contains the one before"
                )
        if self.kafka_group_protocol != "classic" and self.kafka_client != "librdkafka":
            raise ValueError(
                f"kafka-group-protocol {self.kafka_group_protocol} needs kafka-client librdkafka: {self.kafka_client} "
                "has the classic one only"
            )
        if self.retry_delay_seconds > self.max_retry_delay_seconds:
            raise ValueError("retry-delay-seconds must not be longer than max-retry-delay-seconds")
        silent_seconds = 2 * self.request_timeout_seconds + self.retry_delay_seconds
        if self.stall_seconds <= silent_seconds:
            raise ValueError(
                f"stall-seconds ({self.stall_seconds:g}) must be longer than twice request-timeout-seconds and "
                f"retry-delay-seconds ({silent_seconds:g}): a model server that hangs is noticed after one call and one "
                "probe, and must not turn /livez red before"
            )
        check_serving(
            tls=self.serving_tls,
            ca_file=self.serving_ca_file,
            cert_file=self.serving_cert_file,
            key_file=self.serving_key_file,
            server_name=self.serving_server_name,
            token_file=self.serving_token_file,
        )
        if self.metrics_key_file and not self.metrics_cert_file:
            raise ValueError("metrics-key-file needs metrics-cert-file")
        self.metrics_tls()
        self.metrics_token()
        if self.vocabulary and not Path(self.vocabulary).is_file():
            raise ValueError(f"the vocabulary file {self.vocabulary} does not exist")
        parse_start(self.start)
        parse_until(self.until)
        header_names(self.pass_headers)
        _ = self.review_fields
        process_count(self.processes)
        if len(self.label_names) == 1:
            raise ValueError("labels needs at least two names")
        return self

    @classmethod
    def settings_customise_sources(
        cls, settings_cls: type[BaseSettings], *sources: PydanticBaseSettingsSource, **named: PydanticBaseSettingsSource
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """First named wins; the command line's source is put before these by `load`."""
        inherited = super().settings_customise_sources(settings_cls, *sources, **named)
        return (*inherited, TomlConfigSettingsSource(settings_cls, os.environ.get("INFERRY_CONFIG")))

    def redacted(self) -> dict[str, Any]:
        """Field names and values fit to print: secrets are shown as asterisks."""
        return self.model_dump(mode="json")


def load(arguments: Sequence[str]) -> Settings:
    """Reads the settings once, from `arguments` (the command line without the program's name), environment and file.

    Raises ConfigError with one line for each setting that is wrong. An unknown flag, or `--help`, ends the process as
    argparse does (exit code 2 or 0)."""
    unknown = sorted(
        name
        for name in os.environ
        if name.startswith("INFERRY_")
        and name not in ("INFERRY_CONFIG", SECRETS_DIR)
        and name.removeprefix("INFERRY_").lower() not in Settings.model_fields
    )
    if unknown:
        raise ConfigError(f"no such setting: {', '.join(unknown)}. `inferry-worker config` lists all there are")
    named_file = os.environ.get("INFERRY_CONFIG")
    if named_file and not Path(named_file).is_file():
        raise ConfigError(f"the settings file {named_file} (INFERRY_CONFIG) does not exist")
    arguments = [
        "--start" + a.removeprefix("--from") if a == "--from" or a.startswith("--from=") else a for a in arguments
    ]
    try:
        return CliApp.run(Settings, cli_args=arguments)
    except ValidationError as error:
        raise ConfigError(
            "; ".join(_sentence(e) for e in error.errors(include_url=False, include_input=False))
        ) from None
    except (SettingsError, tomllib.TOMLDecodeError, SecretsFolderMissing) as error:
        raise ConfigError(str(error)) from None


def _sentence(error: ErrorDetails) -> str:
    """One line for a person from one of pydantic's errors; values are left out, they may be secret."""
    where = ".".join(str(part) for part in error["loc"])
    what = error["msg"].removeprefix("Value error, ")
    return f"{where}: {what}" if where else what
