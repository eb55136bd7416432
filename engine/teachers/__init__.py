"""Room 2: who answers the prompts; nothing paid for is lost."""
