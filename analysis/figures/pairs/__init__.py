"""Figures of two runs on the same images."""
