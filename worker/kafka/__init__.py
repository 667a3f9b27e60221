"""Kafka as the worker's source and delivery: generations, positions, transactions, lag, in our terms and written once.

Kafka clients stand below a narrow protocol (`driver`), one driver each (`drivers`); `Kafka` is the package's door."""

from worker.kafka.opening import Kafka as Kafka
