"""The only door into a model: masks read and written through probes."""
