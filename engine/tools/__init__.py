"""Tools that a model may call before it answers, and the conversation with them. No argument of a call can do harm."""
