"""The one-machine stack: real Kafka, the model server, the worker, without root or Docker."""
