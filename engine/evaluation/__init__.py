"""Room 6: how good, fast and cheap each model is on a holdout that no model wrote."""
