"""Room 1: sources in, prompts and a holdout out; what is no prompt keeps its reason."""
