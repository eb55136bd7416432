"""The teacher's distribution at the tokens of the examples' targets, paid once for all students."""
