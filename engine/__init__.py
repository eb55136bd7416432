"""Rayleigh as a library: reads no argv and no environment, prints nothing."""
