"""Source files in; prompts, a holdout, rejects and dropped copies out."""
