"""YAML -> frozen pydantic. Imports pydantic and yaml and nothing heavier."""
