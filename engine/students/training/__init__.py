"""The training: one loop, DeepSpeed, Ray Train."""
