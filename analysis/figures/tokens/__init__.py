"""Figures of tokens: used, pruned, called back; one figure a file."""
