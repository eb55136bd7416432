"""Room 5: prune, pack, train, export; one capacity at a time, several side by side."""
