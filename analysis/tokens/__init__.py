"""Questions about single tokens: what their use follows, what pruning them lost."""
