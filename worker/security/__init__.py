"""How the programs prove who they are and whom they trust: settings, files and tokens, checked before anything connects.

What is here knows no Kafka client and no gRPC: the adapters map it to theirs."""

from worker.security.files import Unusable
from worker.security.kafka import KafkaSettings
from worker.security.tokens import TokenSource, TokenUnavailable

__all__ = ["KafkaSettings", "TokenSource", "TokenUnavailable", "Unusable"]
