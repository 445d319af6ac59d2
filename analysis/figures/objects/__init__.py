"""Figures of objects: where their tokens are, and which are missed."""
