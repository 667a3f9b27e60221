"""Kafka as the worker's source and delivery: generations, positions, transactions."""
