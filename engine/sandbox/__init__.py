"""Where what a model wrote is run: processes of their own, behind walls of the kernel and within limits."""
