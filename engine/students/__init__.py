"""Training of students: prune, pack, train, export."""
