"""What operators see: metrics, logs, probes."""
