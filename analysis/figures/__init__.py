"""Figures: frames in, drawn on given axes, and what they are called."""
