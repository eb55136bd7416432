"""Measures models on the holdout: quality, latency, memory and cost."""
