"""Job runner, provenance, ledger of paid work."""
