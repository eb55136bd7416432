"""Isolated execution of untrusted code and queries: worker processes, limits, and kernel mechanisms that confine a program."""
