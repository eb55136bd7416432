"""Two runs side by side: what differs between them, and what moved because of it."""
