"""What a person or a scheduler starts: the command, the line, one short file a job."""
