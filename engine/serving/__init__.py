"""Serves a release as it was measured: server, certified cascade, shadow comparison, monitor."""
