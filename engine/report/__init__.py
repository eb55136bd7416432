"""One self-contained HTML page from finished artifacts."""
