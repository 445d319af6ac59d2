"""Weights: our own checkpoints, and everybody else's under their names."""
