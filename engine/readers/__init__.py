"""Data files: which files a path names, and their rows."""
