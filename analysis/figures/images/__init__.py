"""Figures of single pictures: what a model does with their tokens."""
