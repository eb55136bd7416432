"""Training of a student on its own samples, in rounds."""
