"""Deduplication by equal text, by MinHash and by embedding."""
