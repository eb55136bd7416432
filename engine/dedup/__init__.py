"""Who resembles whom, by words: shared by the rooms that look for copies."""
