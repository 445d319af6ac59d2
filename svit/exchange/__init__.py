"""Runs from and for other programs; no torch."""
