"""Verbs that read and write what other programs do."""
