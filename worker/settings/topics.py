"""The settings of reading from Kafka and of writing to it; those of the connection stand in worker.security.kafka."""

from __future__ import annotations

import itertools
from typing import Literal

from pydantic import Field, model_validator

from worker.run_bounds import parse_start, parse_until
from worker.security.kafka import KafkaSettings
from worker.settings.kinds import Count, Seconds


class TopicSettings(KafkaSettings):
    """The group, the topics, how answers are delivered, and how long Kafka may take."""

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

    @property
    def producer_id(self) -> str:
        """The transactional id in force."""
        return self.transactional_id or f"{self.group}.0"

    @model_validator(mode="after")
    def _check_topics(self) -> TopicSettings:
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
        parse_start(self.start)
        parse_until(self.until)
        return self
