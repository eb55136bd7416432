"""Room 7: the gate, the registry of champions, the model card."""
