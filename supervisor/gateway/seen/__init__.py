"""What went through: the last requests, counters, and what Prometheus is told."""
