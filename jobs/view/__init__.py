"""`rayleigh view`: a local, read-only page over runs. See README.md."""
