"""Trained weights as files that other programs load."""
