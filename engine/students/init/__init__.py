"""Initial models: layers, widths and vocabulary of a larger one."""
