"""Figures of tokens over whole runs: used, pruned, called back; one figure a file."""
