"""Figures of accuracy, cost, speed and training."""
