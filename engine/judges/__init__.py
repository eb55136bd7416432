"""Room 3: what an answer is worth and the one pool it goes to."""
