"""Serving: the cascade, its certified thresholds, shadow comparison and monitoring. Pure logic here; Ray only in flow.py."""
