"""Room 4: which candidates become examples; what loses keeps its reason and the id it lost to."""
