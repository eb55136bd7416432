"""What a model may call before it answers: executors that no argument can harm, and the conversation around them."""
