"""Training data that leaves a run: the forms that other programs read, a last look for personal data, cards."""
