"""The settings of the process: its life, its port, traces and logs."""

from __future__ import annotations

import ssl
from typing import Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings

from worker.cores import process_count
from worker.security.files import Named, secret, server_context
from worker.settings.kinds import Seconds


class RunningSettings(BaseSettings):
    """How it starts and stops, what ends it, and where it tells of itself."""

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
    def _check_running(self) -> RunningSettings:
        if self.metrics_key_file and not self.metrics_cert_file:
            raise ValueError("metrics-key-file needs metrics-cert-file")
        self.metrics_tls()
        self.metrics_token()
        process_count(self.processes)
        return self
