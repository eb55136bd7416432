"""Serves a release as it was measured."""
