"""The pruning methods: one paper, one file. Each is an entry of `svit.core.catalogue`."""
