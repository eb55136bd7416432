"""Room 8: one self-contained page from finished artifacts."""
