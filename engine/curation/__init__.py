"""From judged candidates to training data: deduplication, decontamination, selection and derived data."""
