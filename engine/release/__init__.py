"""The gate, the registry of champions and the model card."""
